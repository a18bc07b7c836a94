"""Where workers connect, on real sockets."""

import errno
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shim.control import (
    MAX_MESSAGE_BYTES,
    CallRefused,
    FromWorker,
    StopWorker,
    StreamStarted,
    encode,
)
from supervisor.workers.control_server import ControlServer, WorkerChannel
from tests.shim.polling import until
from tests.supervisor.few_fds import fds_left, open_fds
from tests.supervisor.worker_rig import Peer


class Owner:
    """Notes what the server tells."""

    def __init__(self) -> None:
        self.messages: list[tuple[WorkerChannel, FromWorker]] = []
        self.sockets: list[socket.socket] = []
        self.closed: list[tuple[WorkerChannel, str]] = []

    def on_message(
        self, channel: WorkerChannel, message: FromWorker, passed: socket.socket | None
    ) -> None:
        self.messages.append((channel, message))
        if passed is not None:
            self.sockets.append(passed)

    def on_closed(self, channel: WorkerChannel, reason: str) -> None:
        self.closed.append((channel, reason))


@pytest.fixture
def path() -> Iterator[Path]:
    """A name that is short enough for a socket, with what a dead supervisor has left there."""
    with tempfile.TemporaryDirectory(prefix="ots-control-") as directory:
        path = Path(directory) / "supervisor.sock"
        path.write_text("left behind")
        yield path


async def test_messages_come_with_their_connection(path: Path) -> None:
    """Each message is told with the connection that it came from, in order."""
    owner = Owner()
    server = ControlServer(path, owner)
    with Peer(path) as one, Peer(path) as other:
        one.send(StreamStarted("CA1", 1.5))
        await until(lambda: len(owner.messages) == 1, "the first message")
        other.send(CallRefused("CA2", "no"))
        one.send(CallRefused("CA1", "no"))
        await until(lambda: len(owner.messages) == 3, "all messages")
        channels = {channel for channel, _ in owner.messages}
        assert len(channels) == 2
        first = owner.messages[0][0]
        assert [message for channel, message in owner.messages if channel is first] == [
            StreamStarted("CA1", 1.5),
            CallRefused("CA1", "no"),
        ]
        first.send(StopWorker())
        assert await one.receive() == StopWorker()
    await until(lambda: len(owner.closed) == 2, "both ends are noticed")
    assert {reason for _, reason in owner.closed} == {"end of file"}
    server.close()


async def test_a_socket_comes_along(path: Path) -> None:
    """A descriptor that is passed with a message arrives as a socket, and works."""
    owner = Owner()
    server = ControlServer(path, owner)
    here, there = socket.socketpair()
    with Peer(path) as peer, here, there:
        message = encode(CallRefused("CA1", "no"))
        socket.send_fds(peer.socket, [message], [there.fileno()])
        await until(lambda: owner.sockets, "the socket")
        with owner.sockets[0] as passed:
            passed.send(b"through")
            assert here.recv(10) == b"through"
    server.close()


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"\xc1", "undecodable control message of 1 bytes"),
        (b"\x81\xa4type\xa5Hello", "undecodable control message"),
        (b"x" * (MAX_MESSAGE_BYTES + 1), "a message was cut off"),
    ],
)
async def test_garbage_closes_that_connection(path: Path, garbage: bytes, reason: str) -> None:
    """What can't be decoded, or is too large, ends its connection, and no other."""
    owner = Owner()
    server = ControlServer(path, owner)
    with Peer(path) as good, Peer(path) as bad:
        bad.send(garbage)
        assert await bad.receive() is None
        assert len(owner.closed) == 1
        assert reason in owner.closed[0][1]
        good.send(CallRefused("CA1", "no"))
        await until(lambda: owner.messages, "the other one's message")
    server.close()


async def test_a_socket_with_garbage_is_closed(path: Path) -> None:
    """A descriptor that comes with an undecodable message doesn't stay open."""
    owner = Owner()
    server = ControlServer(path, owner)
    here, there = socket.socketpair()
    with here:
        with Peer(path) as peer, there:
            socket.send_fds(peer.socket, [b"\xc1"], [there.fileno()])
            assert await peer.receive() is None
        here.settimeout(1)
        assert here.recv(1) == b"", "the other end is still open"
    server.close()


async def test_the_socket_file(path: Path) -> None:
    """Only our user can connect; a file of a dead supervisor is replaced; the end removes it."""
    server = ControlServer(path, Owner())
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with Peer(path):
        server.close()
    assert os.listdir(path.parent) == []


async def test_close_ends_all_connections(path: Path) -> None:
    """Workers see the end at once, also one that was connected a moment ago; no fd is left."""
    before = open_fds()
    owner = Owner()
    server = ControlServer(path, owner)
    with Peer(path) as peer, Peer(path) as silent:
        peer.send(CallRefused("CA1", "no"))
        await until(lambda: owner.messages, "accepted")
        server.close()
        assert await peer.receive() is None
        assert await silent.receive() is None
    assert open_fds() == before


async def test_no_file_descriptors_are_left(path: Path) -> None:
    """A worker that can't be accepted now is accepted later, without a flood of log lines."""
    owner = Owner()
    server = ControlServer(path, owner)
    with Peer(path) as peer, capture_logs() as logs:
        peer.send(CallRefused("CA1", "no"))
        with fds_left(0):
            await until(lambda: logs, "the failure is logged")
        await until(lambda: owner.messages, "accepted later")
        assert [line["event"] for line in logs] == ["worker_not_accepted"]
        assert logs[0]["reason"] == os.strerror(errno.EMFILE)
    server.close()
