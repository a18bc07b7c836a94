"""What supervisor and worker say to each other, over a real socket pair."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from typing import TypeAlias

import msgspec
import pytest

from shim import control
from shim.control import (
    CallClosed,
    CallFigures,
    CallQuality,
    CallRefused,
    CallReleased,
    CallsNow,
    CallStats,
    ControlError,
    EndCall,
    FromWorker,
    HeldCall,
    Hello,
    MediaConnected,
    PressDigit,
    ReleaseCall,
    SendDigits,
    StartCall,
    StopWorker,
    StreamEnded,
    StreamStarted,
    ToWorker,
    WorkerStats,
    WorkerTotals,
)
from shim.control_channel import MAX_QUEUED, ControlChannel
from shim.histogram import Histogram
from tests.shim.polling import until
from tests.shim.samples import CALL, call_spec

HELLO = Hello(worker=0, seat=0, pid=1, cpus=[0], table_id=1)
TO_WORKER: list[ToWorker] = [
    StartCall(CALL, resumed=True, media_connected=True),
    StartCall(call_spec(custom_parameters={"k": "ü"}, epoch_ns=(1 << 62), ssrc=0xFFFFFFFF)),
    MediaConnected("CA1"),
    PressDigit("CA1", "#"),
    EndCall("CA1", "hangup"),
    ReleaseCall("CA1"),
    StopWorker(),
]
FROM_WORKER: list[FromWorker] = [
    Hello(3, 1, 4711, [0, 1], 99, 2),
    HeldCall(CALL, connected=True),
    StreamStarted("CA1", 12.5),
    StreamEnded("CA1", "closed with 1000", failed=False),
    CallClosed("CA1", CallStats(frames_out=1, reconnects=2)),
    CallReleased("CA1", CallStats(frames_in=3)),
    CallRefused("CA1", "no RTP socket came along"),
    SendDigits("CA1", "12*"),
    CallsNow([CallFigures("CA1", CallStats(lost=1), CallQuality(4.1, 2.5, 60, None), 40, True)]),
    WorkerStats(
        calls=1,
        rss_bytes=50_000_000,
        worst_lateness_ms=1.5,
        totals=WorkerTotals(
            CallStats(lost=1), skipped_frames=3, lateness=Histogram((1, 2.5), [1, 0, 0], 0.5)
        ),
    ),
]


@pytest.mark.parametrize("message", TO_WORKER, ids=lambda message: type(message).__name__)
def test_messages_to_a_worker(message: ToWorker) -> None:
    """What is encoded is decoded again."""
    assert control.decode_to_worker(control.encode(message)) == message


@pytest.mark.parametrize("message", FROM_WORKER, ids=lambda message: type(message).__name__)
def test_messages_from_a_worker(message: FromWorker) -> None:
    """What is encoded is decoded again."""
    assert control.decode_from_worker(control.encode(message)) == message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"hello",
        control.encode(HELLO),
        control.encode(StartCall(CALL))[:-1],
        control.encode(StopWorker()) + b"\x00",
        msgspec.msgpack.encode({"type": "EndCall", "call_sid": 7, "reason": ""}),
        msgspec.msgpack.encode({"type": "EndCall", "call_sid": "CA1"}),
        b"\x81\xa1x" + b"\x91" * 60_000,
        b"\x82\xa4type\xaaStopWorker\xa1x" + b"\x91" * 60_000 + b"\xc0",
        b"\x83\xa4type\xa7EndCall\xa8call_sid\xa1\xff\xa6reason\xa0",
    ],
    ids=lambda data: data[:24].hex() or "empty",
)
def test_undecodable(data: bytes) -> None:
    """Whatever is no message raises ControlError and nothing else."""
    with pytest.raises(ControlError):
        control.decode_to_worker(data)


def test_oversized() -> None:
    """The error says which message, how large, and what is allowed."""
    message = SendDigits("CA1", "1" * 65536)
    with pytest.raises(ControlError, match=r"^SendDigits has 65\d\d\d bytes, 65536 are allowed$"):
        control.encode(message)


Channel: TypeAlias = ControlChannel[ToWorker]


class Ends:
    """A channel as a worker has it, and the bare socket at its other end."""

    def __init__(self) -> None:
        ours, self.other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.other.setblocking(False)
        self.messages: list[ToWorker] = []
        self.passed: list[socket.socket | None] = []
        self.closed: list[str] = []
        self.channel: Channel = ControlChannel(
            ours, control.decode_to_worker, self._on_message, self.closed.append
        )

    def _on_message(self, message: ToWorker, passed: socket.socket | None) -> None:
        self.messages.append(message)
        self.passed.append(passed)

    def close(self) -> None:
        """Close all that is open."""
        self.channel.close()
        self.other.close()
        for sock in self.passed:
            if sock is not None:
                sock.close()


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    """A channel and its other end; no descriptor may be left over."""
    before = len(os.listdir("/proc/self/fd"))
    pair = Ends()
    yield pair
    pair.close()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_messages_arrive_in_order(ends: Ends) -> None:
    """One datagram is one message."""
    for message in TO_WORKER:
        ends.other.send(control.encode(message))
    await until(lambda: len(ends.messages) == len(TO_WORKER), "all messages")
    assert ends.messages == TO_WORKER
    assert ends.passed == [None] * len(TO_WORKER)


async def test_a_socket_comes_with_its_message(ends: Ends) -> None:
    """The descriptor that arrives is the same socket, though the sender closed its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address = sock.getsockname()
        ends.other.send(control.encode(MediaConnected("CA0")))
        socket.send_fds(ends.other, [control.encode(StartCall(CALL))], [sock.fileno()])
    await until(lambda: len(ends.messages) == 2, "both messages")
    first, second = ends.passed
    assert first is None
    assert second is not None
    assert second.getsockname() == address


async def test_sending_a_socket(ends: Ends) -> None:
    """A socket that is sent stays open at the sender's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        ends.channel.send(HeldCall(CALL, connected=False), sock)
        data, fds, _, _ = socket.recv_fds(ends.other, 65536, 4)
        assert control.decode_from_worker(data) == HeldCall(CALL, connected=False)
        with socket.socket(fileno=fds[0]) as copy:
            assert copy.getsockname() == sock.getsockname()
        assert len(fds) == 1
        assert sock.fileno() >= 0


@pytest.mark.parametrize("data", [b"\xc1", b"\x00" * 100])
async def test_undecodable_input_closes(ends: Ends, data: bytes) -> None:
    """A broken peer is cut off, and told to nobody twice; a socket that came along is closed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        socket.send_fds(ends.other, [data], [sock.fileno()])
    await until(lambda: ends.closed, "the channel's end")
    [reason] = ends.closed
    assert "undecodable control message" in reason
    assert ends.other.recv(10) == b""
    ends.channel.close()
    assert len(ends.closed) == 1


async def test_oversized_input_closes(ends: Ends) -> None:
    """A datagram that is longer than allowed is not guessed at."""
    ends.other.send(b"\x00" * (control.MAX_MESSAGE_BYTES + 1))
    await until(lambda: ends.closed, "the channel's end")
    assert ends.closed == ["a message was cut off"]


async def test_end_of_file(ends: Ends) -> None:
    """The peer's death is noticed at once; what it said before still arrives."""
    ends.other.send(control.encode(StopWorker()))
    ends.other.close()
    await until(lambda: ends.closed, "the channel's end")
    assert (ends.closed, ends.messages) == (["end of file"], [StopWorker()])
    ends.channel.send(HELLO)  # into the void, without an error


async def test_peer_dies_with_unread_messages(ends: Ends) -> None:
    """The kernel reports a reset then, which is an end as well."""
    ends.channel.send(HELLO)
    ends.other.close()
    await until(lambda: ends.closed, "the channel's end")
    assert len(ends.closed) == 1


async def test_slow_reader_gets_everything(ends: Ends) -> None:
    """What the kernel doesn't take waits, with its sockets, and arrives in order."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(1000):
            ends.channel.send(SendDigits(f"CA{number}", "1"), sock if number % 100 == 99 else None)
        received: list[FromWorker] = []
        copies = 0
        while len(received) < 1000:
            try:
                data, fds, _, _ = socket.recv_fds(ends.other, 65536, 4)
            except BlockingIOError:
                await asyncio.sleep(0)
                continue
            received.append(control.decode_from_worker(data))
            copies += len(fds)
            for fd in fds:
                os.close(fd)
    assert received == [SendDigits(f"CA{number}", "1") for number in range(1000)]
    assert copies == 10
    assert not ends.closed


async def test_peer_that_never_reads(ends: Ends) -> None:
    """After so many waiting messages it counts as broken; their sockets are closed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _ in range(MAX_QUEUED + 1000):
            ends.channel.send(SendDigits("CA1", "1"))
        ends.channel.send(HeldCall(CALL, connected=True), sock)
    assert ends.closed == [f"the peer left {MAX_QUEUED} messages unread"]
