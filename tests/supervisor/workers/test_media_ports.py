"""The RTP sockets of calls, on real ports."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from shim.environment import ConfigError
from shim.port_layout import Shape, initialize
from supervisor.workers.media_ports import BIND_TRIES, MediaPorts, NoPortError, check_host
from supervisor.workers.port_table import PortTable
from tests.supervisor.few_fds import fds_left, open_fds

HOST = "127.0.0.1"
PORTS = 20


def udp(port: int = 0) -> socket.socket:
    """A bound UDP socket of another program."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind((HOST, port))
    except OSError:
        sock.close()
        raise
    return sock


def free_range() -> int:
    """The first of `PORTS` neighbouring UDP ports that are free at this moment."""
    first = 30_000 + os.getpid() % 2000
    while True:
        with ExitStack() as stack:
            try:
                for port in range(first, first + PORTS):
                    stack.enter_context(udp(port))
            except OSError:
                first += PORTS
            else:
                return first


@pytest.fixture
def ports() -> Iterator[MediaPorts]:
    """Ten ports for each of two workers."""
    first = free_range()
    shape = Shape(first, first + PORTS - 1, workers=2)
    layout = initialize(memoryview(bytearray(shape.size_bytes)), shape, table_id=1)
    ports = MediaPorts(PortTable(layout, 0), HOST)
    yield ports
    ports.close()


def test_a_port_is_leased_and_bound(ports: MediaPorts) -> None:
    """A call gets the first port of the first worker, and a socket that receives on it."""
    worker, port = ports.take([1, 0], "CA1")
    assert (worker, port) == (1, ports.table.slice(1)[0])
    sock = ports.socket_of("CA1")
    assert sock is not None
    assert sock.getsockname() == (HOST, port)
    assert not sock.getblocking()
    with udp() as sender:
        sender.sendto(b"rtp", (HOST, port))
        sock.setblocking(True)
        assert sock.recv(100) == b"rtp"


def test_a_taken_port_is_skipped(ports: MediaPorts) -> None:
    """A port that another program has is left to rest, and the next one is taken."""
    first = ports.table.slice(0)[0]
    with udp(first):
        assert ports.take([0], "CA1") == (0, first + 1)
    assert ports.table.counts(0) == {"free": 8, "leased": 1, "quarantined": 1}


def test_a_call_port_is_ours_alone(ports: MediaPorts) -> None:
    """No other program can bind a port that a call has."""
    _, port = ports.take([0], "CA1")
    with pytest.raises(OSError, match="in use"):
        udp(port)


def test_the_next_worker_helps_out(ports: MediaPorts) -> None:
    """When a worker's slice is used up the next worker's is taken, and then there is none."""
    for number in range(10):
        assert ports.take([0, 1], f"CA{number}")[0] == 0
    for number in range(10, 20):
        assert ports.take([0, 1], f"CA{number}")[0] == 1
    with pytest.raises(NoPortError, match="no worker has a free port"):
        ports.take([0, 1], "CA20")
    with pytest.raises(NoPortError):
        ports.take([], "CA21")
    assert ports.socket_of("CA20") is None


def test_release_gives_all_back(ports: MediaPorts) -> None:
    """The socket is closed, its port can be bound by others, and rests in the table."""
    before = open_fds()
    _, port = ports.take([0], "CA1")
    assert open_fds() == before + 1
    ports.release("CA1")
    ports.release("CA1")
    assert open_fds() == before
    assert ports.socket_of("CA1") is None
    assert ports.table.counts(0) == {"free": 9, "leased": 0, "quarantined": 1}
    udp(port).close()


def test_only_the_peer_gets_through_after_connect(ports: MediaPorts) -> None:
    """Once Asterisk's address is known the kernel drops what comes from elsewhere."""
    _, port = ports.take([0], "CA1")
    sock = ports.socket_of("CA1")
    assert sock is not None
    with udp() as asterisk, udp() as stranger:
        ports.connect("CA1", asterisk.getsockname())
        stranger.sendto(b"noise", (HOST, port))
        asterisk.sendto(b"voice", (HOST, port))
        assert sock.recv(100) == b"voice"
        with pytest.raises(BlockingIOError):
            sock.recv(100)


def test_an_adopted_socket_is_held(ports: MediaPorts) -> None:
    """A socket that a worker brought along is the call's from then on, and closed at its end."""
    port = ports.table.slice(1)[3]
    sock = udp(port)
    ports.adopt("CA1", port, 1, sock)
    assert ports.socket_of("CA1") is sock
    assert ports.table.counts(1)["leased"] == 1
    ports.release("CA1")
    assert sock.fileno() == -1
    assert ports.table.counts(1) == {"free": 9, "leased": 0, "quarantined": 1}


def test_no_file_descriptors_are_left(ports: MediaPorts) -> None:
    """EMFILE refuses the new call; calls that are up keep their sockets, and nothing leaks."""
    ports.take([0], "CA1")
    before = open_fds()
    with fds_left(0), pytest.raises(NoPortError, match="no socket: Too many open files"):
        ports.take([0, 1], "CA2")
    assert open_fds() == before
    assert ports.socket_of("CA1") is not None
    assert ports.socket_of("CA2") is None
    assert ports.table.counts(0) == {"free": 8, "leased": 1, "quarantined": 1}
    assert ports.take([0], "CA2")[0] == 0


def test_all_tries_hit_taken_ports() -> None:
    """Other programs on every port: a clear refusal after a bounded number of tries, no leak."""
    first = free_range()
    shape = Shape(first, first + PORTS - 1, workers=1)
    layout = initialize(memoryview(bytearray(shape.size_bytes)), shape, table_id=1)
    ports = MediaPorts(PortTable(layout, 0), HOST)
    with ExitStack() as stack:
        for port in range(first, first + PORTS):
            stack.enter_context(udp(port))
        before = open_fds()
        with pytest.raises(NoPortError):
            ports.take([0], "CA1")
        assert open_fds() == before
    assert ports.table.counts(0)["quarantined"] == PORTS <= BIND_TRIES


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_an_address_of_this_machine(host: str) -> None:
    """Addresses of this machine are usable for RTP."""
    check_host("RTP_BIND_HOST", host)


@pytest.mark.parametrize("host", ["192.0.2.1", "::1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours(host: str) -> None:
    """What can't be bound is refused at the start, in one line that names it."""
    with pytest.raises(ConfigError, match=r"RTP_BIND_HOST is '.*': .*allowed is an IPv4 address"):
        check_host("RTP_BIND_HOST", host)
