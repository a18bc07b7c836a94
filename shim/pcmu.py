"""The one audio format of a call: G.711 µ-law (PCMU), 8,000 samples a second, frames of 20 ms.

One sample is one byte (ITU-T G.711), so a frame has 160 bytes and the RTP clock of payload
type 0 advances by 160 per frame (RFC 3551 section 4.5.14, table 4).
"""

from typing import Final

PAYLOAD_TYPE: Final = 0
BYTES_PER_MS: Final = 8
PTIME_MS: Final = 20
PTIME_NS: Final = PTIME_MS * 1_000_000
FRAME_BYTES: Final = PTIME_MS * BYTES_PER_MS
SILENCE: Final = b"\xff"
SILENT_FRAME: Final = SILENCE * FRAME_BYTES
