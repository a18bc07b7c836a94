"""The stand-in as a process and as an object: start, whole calls, and what is left."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from deploy.asterisk_config import ConfigurationError
from loadtest.stand_in import StandIn, values_from_command_line
from tests.loadtest.stand_in_rig import VALUES, Ari, Caller, Udp, eventually

CHECKOUT = Path(__file__).parents[2]
ENVIRONMENT = {"ARI_USER": "tests", "ARI_PASS": "not-secret", "ARI_BASE": "http://127.0.0.1:8088"}


def test_flags_take_the_place_of_variables() -> None:
    """Ports on the command line win, the rest comes from the environment."""
    arguments = ["--http-port", "8090", "--sip-port", "5070", "--rtp-start", "15000"]
    values = values_from_command_line(arguments, ENVIRONMENT | {"SIP_PORT": "5065"})
    assert (values.http_port, values.sip_port, values.rtp_start) == (8090, 5070, 15000)
    assert (values.ari_user, values.ari_app, values.rtp_end) == ("tests", "voice-agent", 19999)


@pytest.mark.parametrize("flag", ["--http-port", "--sip-port", "--rtp-start"])
def test_bad_flag_is_one_clear_error(flag: str) -> None:
    """A port that is none is named in the error."""
    with pytest.raises(ConfigurationError, match="70000"):
        values_from_command_line([flag, "70000"], ENVIRONMENT)


async def start_process(*arguments: str) -> asyncio.subprocess.Process:
    """`python -m loadtest.stand_in` with its output piped."""
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "loadtest.stand_in", *arguments)
    return await asyncio.create_subprocess_exec(
        *command, cwd=CHECKOUT, env=ENVIRONMENT, stdout=pipe, stderr=pipe
    )


def free_ports() -> list[str]:
    """Flags with an HTTP and a SIP port that are free at this moment."""
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        http_port, sip_port = tcp.getsockname()[1], udp.getsockname()[1]
    ports = ["--http-port", str(http_port), "--sip-port", str(sip_port)]
    return [*ports, "--rtp-start", "43000", "--rtp-end", "43999"]


class Running:
    """A stand-in process that is ready, and where it is reached."""

    def __init__(self, process: asyncio.subprocess.Process, ready: str) -> None:
        match = re.fullmatch(r"stand-in for Asterisk: (\S+) sip:agent@([\d.]+):(\d+)\n", ready)
        assert match is not None, ready
        self.process = process
        self.ari_base = match[1]
        self.sip_address = (match[2], int(match[3]))

    async def end(self, number: signal.Signals) -> None:
        """Send a signal; it must end within a second, with exit code 0."""
        self.process.send_signal(number)
        assert await asyncio.wait_for(self.process.wait(), 1) == 0


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    process = await start_process(*free_ports())
    assert process.stdout is not None
    try:
        ready = await asyncio.wait_for(process.stdout.readline(), 10)
        yield Running(process, ready.decode())
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_process_serves_and_ends_on_a_signal(
    running: Running, number: signal.Signals
) -> None:
    """It takes a call, and at its end hangs up the caller."""
    async with Ari(running.ari_base, "tests", "not-secret") as ari, ari.listening():
        with Caller(running.sip_address) as caller:
            await caller.call()
            await ari.event("StasisStart")
            await running.end(number)
            await caller.request("BYE")


async def test_process_ends_in_spite_of_clients_that_hang(running: Running) -> None:
    """A request left hanging and a subscriber that doesn't read don't hold it up."""
    async with (
        Ari(running.ari_base, "tests", "not-secret") as ari,
        ari.session.ws_connect(f"{ari.base}/ari/events?app=voice-agent"),
    ):
        async with ari.session.put(
            f"{ari.base}/stand-in/faults", json={"silent": True}
        ) as response:
            assert response.status == 200
        hanging = asyncio.create_task(ari.call("POST", "/ari/bridges/b1"))
        requests: dict[str, int] = {}
        while "POST /ari/bridges/{bridge}" not in requests:
            requests = (await ari.call("GET", "/stand-in/state"))[1]["requests"]
        await running.end(signal.SIGTERM)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await hanging


async def test_taken_port_is_one_line_and_exit_code_1() -> None:
    """A second one on the same ports doesn't start and says why."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await start_process("--http-port", str(taken.getsockname()[1]))
        _, error = await asyncio.wait_for(process.communicate(), 10)
    assert process.returncode == 1
    assert error.decode().count("\n") == 1
    assert "address already in use" in error.decode().lower()


async def test_whole_call_leaves_nothing(
    stand_in: StandIn, ari: Ari, caller: Caller, peer: Udp
) -> None:
    """A call through a bridge shows up in the state, and is gone from it afterwards."""
    await caller.call()
    caller_id = (await ari.event("StasisStart"))["channel"]["id"]
    await ari.call("POST", "/ari/bridges/b1", type="mixing")
    media = await ari.external_media("m1", peer.address)
    await ari.event("StasisStart")
    await ari.call("POST", "/ari/bridges/b1/addChannel", channel=f"{caller_id},m1")
    peer.send_rtp(media, 1)
    await caller.rtp.receive()

    state = stand_in.state()
    assert state.channels == {caller_id: "Up", "m1": "Up"}
    assert state.bridges == {"b1": [caller_id, "m1"]}
    assert state.applications == {"voice-agent": True}
    assert state.rtp_ports == sorted([caller.media[1], media[1]])
    assert [(leg.channel, leg.received, leg.sent) for leg in state.legs] == [
        (caller_id, 0, 1),
        ("m1", 1, 0),
    ]

    await caller.hang_up()
    await ari.call("DELETE", "/ari/channels/m1")
    await ari.call("DELETE", "/ari/bridges/b1")
    await eventually(lambda: stand_in.state().sip_calls == 0)
    state = stand_in.state()
    assert not state.channels
    assert not state.bridges
    assert not state.rtp_ports
    assert not state.legs
    assert state.requests["POST /ari/bridges/{bridge}/addChannel"] == 1


async def test_state_over_http_needs_no_password(stand_in: StandIn) -> None:
    """Tests of other processes read the same state."""
    async with Ari(stand_in.ari_base, "anyone", "at all") as ari:
        status, state = await ari.call("GET", "/stand-in/state")
    assert (status, state["channels"], state["sip_calls"]) == (200, {}, 0)


async def test_fifty_calls_at_once(stand_in: StandIn, ari: Ari) -> None:
    """Calls that begin together all get through, each with a port of its own."""
    callers = [Caller(stand_in.sip_address) for _ in range(50)]
    await asyncio.gather(*(caller.call() for caller in callers))
    ids = {(await ari.event("StasisStart"))["channel"]["id"] for _ in callers}
    assert len(ids) == len(stand_in.state().rtp_ports) == 50
    await asyncio.gather(*(caller.hang_up() for caller in callers))
    assert not stand_in.state().channels
    for caller in callers:
        caller.__exit__()


async def test_two_stand_ins_at_once(stand_in: StandIn) -> None:
    """They share a port range: a port that the other holds is passed over."""
    async with StandIn(VALUES) as other:
        with Caller(stand_in.sip_address) as first, Caller(other.sip_address) as second:
            await first.call()
            await second.call()
            assert first.media != second.media
