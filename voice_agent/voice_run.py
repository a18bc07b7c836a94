"""Measures how long a caller has been speaking.

Pure: judged frames go in, with the time in seconds.
"""

from typing import Final

GAP_MS: Final = 200
"""A shorter gap between voiced frames belongs to one stretch of speech."""


class VoiceRun:
    """The caller's latest stretch of speech."""

    def __init__(self) -> None:
        self.voice_ms = 0
        """Voiced audio in the stretch; 0 when the caller is quiet."""
        self.last_s: float | None = None
        """When the last voiced frame came."""
        self._gap_ms = 0

    def push(self, duration_ms: int, *, voiced: bool, now_s: float) -> None:
        """Take the next frame."""
        if voiced:
            self.voice_ms += duration_ms
            self._gap_ms = 0
            self.last_s = now_s
            return
        self._gap_ms += duration_ms
        if self._gap_ms >= GAP_MS:
            self.voice_ms = 0
