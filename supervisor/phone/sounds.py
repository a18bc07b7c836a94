"""Sounds that Asterisk can play: fetched from a URL, or spoken by the operator's program.

They are files in a directory that Asterisk reads too. `sound:NAME` is Asterisk's own.
"""

import asyncio
import hashlib
import io
import wave
from pathlib import Path
from typing import Final

from supervisor.phone.webhooks import WebhookError, Webhooks

SPEAK_S: Final = 10.0
KEPT: Final = 500
"""Files in the directory; beyond, the oldest are deleted."""


class SoundError(Exception):
    """There is no such sound; the text says why, and what is allowed."""


class Sounds:
    """Makes `sound:` names for ARI.

    Args:
        directory: where the files go; None: there is none, and URLs can't be played.
        say_command: reads text on its input, writes an 8 kHz mono WAV; "": nothing is spoken.
    """

    def __init__(self, webhooks: Webhooks, directory: Path | None, say_command: str) -> None:
        self._webhooks = webhooks
        self._directory = directory
        self._say_command = say_command

    @property
    def can_speak(self) -> bool:
        """Whether there is a voice."""
        return bool(self._say_command and self._directory)

    async def fetch(self, source: str) -> str:
        """A `<Play>`'s source as ARI's `media`; raises SoundError."""
        if source.startswith("sound:"):
            return source
        if self._directory is None:
            raise SoundError("SOUNDS_DIR isn't set: allowed is sound:NAME only")
        try:
            data = await self._webhooks.ask(source, "GET", {})
        except WebhookError as error:
            raise SoundError(str(error)) from error
        return await asyncio.to_thread(_keep, self._directory, data)

    async def speak(self, text: str) -> str:
        """Text as ARI's `media`; raises SoundError."""
        if self._directory is None:
            raise SoundError("SOUNDS_DIR isn't set, so nothing can be spoken")
        process = await asyncio.create_subprocess_shell(
            self._say_command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(SPEAK_S):
                data, _ = await process.communicate(text.encode())
        except TimeoutError as error:
            raise SoundError(f"SAY_COMMAND took more than {SPEAK_S:g} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise SoundError(f"SAY_COMMAND ended with {process.returncode}, needed is 0")
        return await asyncio.to_thread(_keep, self._directory, data)


def _keep(directory: Path, data: bytes) -> str:
    """Write a sound that isn't there yet, under its digest; the name without its extension."""
    _check_wav(data)
    path = directory / f"{hashlib.sha256(data).hexdigest()}.wav"
    directory.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.write_bytes(data)
        partial.chmod(0o644)
        partial.rename(path)
    kept = sorted(directory.glob("*.wav"), key=lambda each: each.stat().st_mtime)
    for old in kept[:-KEPT]:
        old.unlink(missing_ok=True)
    return f"sound:{path.with_suffix('')}"


def _check_wav(data: bytes) -> None:
    allowed = "allowed is WAV, 8000 Hz, mono, 16 bits"
    try:
        with wave.open(io.BytesIO(data)) as sound:
            shape = (sound.getframerate(), sound.getnchannels(), 8 * sound.getsampwidth())
    except (wave.Error, EOFError) as error:
        raise SoundError(f"the sound is no WAV that can be read ({error}); {allowed}") from error
    if shape != (8000, 1, 16):
        rate, channels, bits = shape
        raise SoundError(f"the sound has {rate} Hz, {channels} channels, {bits} bits; {allowed}")
