"""A stand-in for Asterisk: takes SIP calls, speaks ARI, passes RTP between a bridge's two legs.

    python -m loadtest.stand_in [--http-port 8088 --sip-port 5060 --rtp-start 10000 --rtp-end 19999]

For machines where no real Asterisk can be had, and for faults that a real one can't show. User,
password, application and addresses come from the environment, under the names that the real one's
configuration uses (deploy/asterisk_config.py). It answers as Asterisk 22.10.1 was seen to, with
these limits: two channels of µ-law in a bridge, no mixing, no transcoding, no RTCP, no outbound
calls, no recordings or snoop channels, and of the ARI resources those in `stand_in_rest`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import uvloop
from msgspec import Struct

from deploy.asterisk_config import AsteriskValues, ConfigurationError, values_from_environment
from loadtest.stand_in_ari import Account, AriServer
from loadtest.stand_in_calls import NORMAL_CLEARING, Channel, Exchange
from loadtest.stand_in_events import Applications
from loadtest.stand_in_faults import FaultPlan, Faults
from loadtest.stand_in_media import ExternalMedia
from loadtest.stand_in_rest import Resources
from loadtest.stand_in_rtp import Address, RtpPorts
from loadtest.stand_in_sip import SipSide

CANNOT_START = 78
"""Exit code when a start would fail again in the same way (EX_CONFIG in sysexits.h)."""

ASTERISK_ID = "02:00:00:00:00:01"
FLAGS = {  # each with the environment variable that it takes the place of
    "--http-port": "ARI_BASE",
    "--sip-port": "SIP_PORT",
    "--rtp-start": "ASTERISK_RTP_START",
    "--rtp-end": "ASTERISK_RTP_END",
}


class LegState(Struct, frozen=True):
    """A channel's RTP: its port here, and packets since the channel began. `unsent` counts what
    could not be sent or was refused by the peer's machine."""

    channel: str
    port: int
    received: int
    sent: int
    unsent: int
    malformed: int


class State(Struct, frozen=True):
    """What is up. All but the counters and `applications` is empty when no call is left.

    `channels` maps ids to states, `bridges` to channel ids, `applications` to whether one listens.
    `sip_calls` counts dialogs, those included whose last transaction still waits for an answer.
    """

    channels: dict[str, str]
    bridges: dict[str, list[str]]
    applications: dict[str, bool]
    rtp_ports: list[int]
    legs: list[LegState]
    sip_calls: int
    sip_malformed: int
    requests: dict[str, int]


class StandIn:
    """The whole stand-in; `async with StandIn(values)` runs it. Ports that are 0 are chosen.

    `ari_base`, `sip_address` and `sip_uri` say where it is reached. Raises OSError when a port is
    taken.
    """

    def __init__(self, values: AsteriskValues) -> None:
        self._values = values
        self._plan = FaultPlan()
        self._applications = Applications(self._plan, ASTERISK_ID)
        self._exchange = Exchange(self._applications, ASTERISK_ID)
        self._ports = RtpPorts(values.sip_host, values.rtp_start, values.rtp_end)
        self._sip = SipSide(self._exchange, self._ports, self._plan, values)
        self._ari = AriServer(
            Account(values.ari_user, values.ari_pass),
            Resources(
                self._exchange,
                ExternalMedia(self._exchange, self._ports, self._plan),
                ASTERISK_ID,
            ),
            self._applications,
            self._plan,
            self.state,
        )
        self.ari_base = ""

    async def __aenter__(self) -> Self:
        try:
            host, port = await self._ari.open(self._values.http_host, self._values.http_port)
            await self._sip.open(self._values.sip_host, self._values.sip_port)
        except BaseException:
            await self.close()
            raise
        self.ari_base = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up the callers, close all sockets."""
        self._sip.close()
        for channel in self._exchange.channels.values():
            channel.line.end(NORMAL_CLEARING)
        await self._ari.close()

    @property
    def sip_address(self) -> Address:
        return self._sip.address

    def sip_uri(self, number: str = "+15551234567") -> str:
        """Where to call: any number leads to the application."""
        host, port = self.sip_address
        return f"sip:{number}@{host}:{port}"

    def set_faults(self, faults: Faults) -> None:
        """Misbehave from now on; Faults() behaves again."""
        self._plan.set(faults)

    @property
    def faults(self) -> Faults:
        """The faults that are left."""
        return self._plan.faults

    def cut_events(self) -> None:
        """Reset all event connections."""
        self._applications.cut_all()

    def state(self) -> State:
        channels = self._exchange.channels.values()
        return State(
            channels={channel.id: channel.state for channel in channels},
            bridges={
                bridge.id: [channel.id for channel in bridge.channels]
                for bridge in self._exchange.bridges.values()
            },
            applications=self._applications.state(),
            rtp_ports=sorted(self._ports.leased),
            legs=[_leg_state(channel) for channel in channels],
            sip_calls=len(self._sip.calls),
            sip_malformed=self._sip.malformed,
            requests=dict(self._ari.requests),
        )


def _leg_state(channel: Channel) -> LegState:
    leg = channel.line.leg
    return LegState(
        channel=channel.id,
        port=leg.address[1],
        received=leg.received,
        sent=leg.sent,
        unsent=leg.unsent,
        malformed=leg.malformed,
    )


def values_from_command_line(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> AsteriskValues:
    """The environment's values, with those of the flags in their place. ConfigurationError."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.stand_in", description=__doc__)
    for flag, variable in FLAGS.items():
        parser.add_argument(flag, dest=variable, help=f"instead of {variable}")
    given = {name: text for name, text in vars(parser.parse_args(arguments)).items() if text}
    if "ARI_BASE" in given:
        given["ARI_BASE"] = f"http://127.0.0.1:{given['ARI_BASE']}"
    return values_from_environment({**environment, **given})


async def serve(values: AsteriskValues) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with StandIn(values) as stand_in:
        print(f"stand-in for Asterisk: {stand_in.ari_base} {stand_in.sip_uri('agent')}", flush=True)
        await stop.wait()


def main() -> int:
    try:
        values = values_from_command_line(sys.argv[1:], os.environ)
        uvloop.run(serve(values))
    except ConfigurationError as error:
        print(f"stand-in: {error}", file=sys.stderr)
        return CANNOT_START
    except OSError as error:  # a port is taken
        print(f"stand-in: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
