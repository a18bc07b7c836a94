"""An owner of links that notes what it is told, and the opening of a link for it."""

import ssl

from shim.agent_link import AgentLink
from shim.link_opener import LinkOpener, LinkSettings
from tests.shim.raw_server import RawConnection

SETTINGS = LinkSettings(
    handshake_timeout_s=2, max_message_bytes=1 << 20, auth_token="", bearer_token=""
)


class Owner:
    """Notes what a link tells it."""

    def __init__(self) -> None:
        self.opened: list[AgentLink] = []
        self.texts: list[bytes] = []
        self.binaries = 0
        self.writable = 0
        self.closed: list[tuple[int | None, str]] = []

    def on_open(self, link: AgentLink) -> None:
        """Keep the link."""
        self.opened.append(link)

    def on_text(self, data: memoryview) -> None:
        """Keep a copy: the memory is only lent."""
        self.texts.append(bytes(data))

    def on_binary(self) -> None:
        """Count."""
        self.binaries += 1

    def on_writable(self) -> None:
        """Count."""
        self.writable += 1

    def on_closed(self, code: int | None, reason: str) -> None:
        """Keep both."""
        self.closed.append((code, reason))


async def open_link(
    url: str,
    owner: Owner,
    settings: LinkSettings = SETTINGS,
    tls: ssl.SSLContext | None = None,
) -> AgentLink:
    """Open a link by an opener of its own."""
    opener = LinkOpener(settings, tls or ssl.create_default_context())
    return await opener.open(url, owner, within_s=5)


async def accept(connection: RawConnection) -> None:
    """Accept, and read to the end."""
    await connection.accept()
    await connection.read_frames()
