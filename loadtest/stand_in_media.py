"""External media of the stand-in: the channel behind `POST /channels/externalMedia`.

Order of the checks, messages and codes are those of Asterisk 22's res/ari/resource_channels.c.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import socket
import uuid
from collections.abc import Callable, Mapping
from functools import partial

from loadtest.stand_in_calls import Channel, Exchange, Json
from loadtest.stand_in_faults import FaultPlan
from loadtest.stand_in_rtp import Address, Leg, RtpPorts
from loadtest.stand_in_script import Script, wait

INTERNAL_ERROR = "An internal error prevented this request from being handled"
FORMAT = "ulaw"  # others would need transcoding


class AriProblem(Exception):
    """What a request is refused with: the HTTP status, and the `message` of the JSON body."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ExternalLine:
    """The line of an external media channel: a socket that talks to one address only."""

    def __init__(self, leg: Leg) -> None:
        self.leg = leg
        self.start: Script | None = None  # what brings the channel into its application
        self.hang_up: Callable[[], None] | None = None

    def resume(self) -> None:
        """After `continue` there is no dialplan for it to go on in."""
        if self.hang_up is not None:
            self.hang_up()

    def end(self, cause: int) -> None:
        if self.start is not None:
            self.start.stop()
        self.leg.close()


class ExternalMedia:
    """Makes external media channels."""

    def __init__(self, exchange: Exchange, ports: RtpPorts, plan: FaultPlan) -> None:
        self._exchange = exchange
        self._ports = ports
        self._plan = plan
        self._numbers = itertools.count(1)

    async def create(self, given: Mapping[str, str], variables: Mapping[str, str]) -> Json:
        """The answer's body; the channel enters its application a moment later.

        Raises AriProblem. Asterisk crashes when it has no RTP port left (asterisk#1757); the
        stand-in says 500.
        """
        _check(given)
        peer = await _resolve(given["external_host"])
        channel_id = given.get("channelId") or str(uuid.uuid4())
        if channel_id in self._exchange.channels or given["format"] != FORMAT:
            raise AriProblem(500, INTERNAL_ERROR)
        line = self._line(peer)
        host, port = line.leg.address
        channel = Channel(
            id=channel_id,
            name=f"UnicastRTP/{given['external_host']}-0x{next(self._numbers):012x}",
            line=line,
            dialplan=_outgoing(),
            variables=dict(variables),
            creator=given["app"],
            listener=given["app"],
        )
        channel.variables |= {"UNICASTRTP_LOCAL_PORT": str(port), "UNICASTRTP_LOCAL_ADDRESS": host}
        line.hang_up = partial(self._exchange.hang_up, channel)
        self._exchange.add_channel(channel)
        answer = {**channel.to_json(), "channelvars": channel.variables}
        self._start_soon(line, partial(self._start, channel, given))
        return answer

    def _line(self, peer: Address) -> ExternalLine:
        try:
            # No digits reach an external peer, and it is offered no payload type for them.
            return ExternalLine(Leg(self._ports, peer, latch=False, event_type=None))
        except OSError as error:
            raise AriProblem(500, INTERNAL_ERROR) from error

    def _start_soon(self, line: ExternalLine, start: Callable[[], None]) -> None:
        if self._plan.faults.early_stasis_start:
            start()
        else:
            line.start = Script(wait(self._plan.faults.external_start_delay_ms / 1000), start)

    def _start(self, channel: Channel, given: Mapping[str, str]) -> None:
        """Without the application it goes again, as in Asterisk, which has answered 200 by then."""
        dialled = f"{given['external_host']}/c({given['format']})"
        self._exchange.dial(channel, dialled, "")
        self._exchange.answered(channel)
        self._exchange.dial(channel, dialled, "ANSWER")
        args = given["data"].split(",") if given.get("data") else []
        if not self._exchange.enter_app(channel, given["app"], args):
            self._exchange.hang_up(channel)


def _outgoing() -> Json:
    """Where a channel is that Asterisk has just called out on."""
    place = {"context": "default", "exten": "s", "priority": 1}
    return {**place, "app_name": "AppDial2", "app_data": "(Outgoing Line)"}


def _check(given: Mapping[str, str]) -> None:
    encapsulation = given.get("encapsulation") or "rtp"
    transport = given.get("transport") or "udp"
    if not given.get("app"):
        raise AriProblem(400, "app cannot be empty")
    if encapsulation == "rtp" and transport != "udp":
        raise AriProblem(400, "transport must be 'udp' for rtp encapsulation")
    if given.get("connection_type") == "server":
        message = "'server' connection_type can only be used with the websocket transport"
        raise AriProblem(400, message)
    if not given.get("external_host"):
        message = "external_host is required for all but websocket server connections"
        raise AriProblem(400, message)
    if not re.fullmatch(r".+:\d{1,5}", given["external_host"]):
        message = "external_host must be <host>:<port> for all transports other than websocket"
        raise AriProblem(400, message)
    if not given.get("format"):
        raise AriProblem(400, "format cannot be empty")
    if (given.get("direction") or "both") not in ("both", "in", "out"):
        raise AriProblem(400, "Invalid direction specified")
    if encapsulation != "rtp":
        raise AriProblem(501, "The encapsulation and/or transport is not supported")


async def _resolve(external_host: str) -> Address:
    host, _, port = external_host.rpartition(":")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, int(port), family=socket.AF_INET, type=socket.SOCK_DGRAM
        )
    except (OSError, OverflowError) as error:
        raise AriProblem(500, INTERNAL_ERROR) from error
    address, number = found[0][4][:2]
    return str(address), int(number)
