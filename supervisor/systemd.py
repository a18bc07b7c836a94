"""What systemd wants to hear of a service (sd_notify(3)), where it listens."""

import os
import socket

import structlog

log = structlog.get_logger()


def notify(state: str) -> None:
    """Send one state, such as "READY=1" or "WATCHDOG=1"."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract namespace, unix(7)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(state.encode(), address)
    except OSError as error:
        log.warning("systemd_not_notified", state=state, reason=error.strerror)
