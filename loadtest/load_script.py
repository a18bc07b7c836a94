"""What a caller of a load test says, and what the offline agent will make of it. Pure.

The agent repeats each turn, after a pause by which it knows that the turn is over. Its own code
tells which frame that is, so the time from that frame to the first sound of the answer is the
audio's way there and back, and nothing else.
"""

from functools import lru_cache
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from loadtest import audio
from loadtest.load_plan import Sound
from loadtest.recording import SILENCE_RMS
from voice_agent.speech import LEAD_MS, ONSET_MS, PAUSE_MS, SpeechDetector, SpeechEnded

PTIME_MS: Final = 20
ONSET_FRAMES: Final = ONSET_MS // PTIME_MS


class Turn(Struct, frozen=True):
    """A turn by its frames, counted from the first that is sent.

    The caller's first sound is in `first`; with frame `ends` the agent knows that the turn is
    over. The answer begins with `lead` silent frames.
    """

    first: int
    ends: int
    lead: int


class Script(Struct, frozen=True):
    """What is said (µ-law), and the turns in it, in order."""

    audio: bytes
    turns: tuple[Turn, ...]


@lru_cache(maxsize=8)
def script(sound: Sound) -> Script:
    """The script of a caller. Its computation takes a few ms per minute of it."""
    speech = audio.speech_burst(sound.speech_s)
    # In the middle of the answer, which comes after the agent's pause and a lead.
    wait_s = (PAUSE_MS + LEAD_MS) / 1000 + sound.speech_s / 2
    barge_in = audio.silence(wait_s) + speech if sound.barges_in else b""
    period = speech + barge_in + audio.silence(sound.silence_s)
    listening = audio.silence(sound.listen_s)
    needed = max(0, round(sound.up_to_s * audio.RATE_HZ) - len(listening))
    said = listening + period * -(-needed // len(period))
    return Script(said, tuple(_turns(said)))


def loud(frames: bytes) -> NDArray[np.bool_]:
    """Which frames of µ-law hold sound; what is left of the last one is ignored."""
    samples = audio.decode(frames[: len(frames) // audio.FRAME_BYTES * audio.FRAME_BYTES])
    power = np.mean(samples.reshape(-1, audio.FRAME_BYTES).astype(np.float32) ** 2, axis=1)
    sounding: NDArray[np.bool_] = power > SILENCE_RMS**2
    return sounding


def _turns(said: bytes) -> list[Turn]:
    detector = SpeechDetector()
    turns: list[Turn] = []
    first = 0
    for number, at in enumerate(range(0, len(said), audio.FRAME_BYTES)):
        event = detector.push(said[at : at + audio.FRAME_BYTES])
        if isinstance(event, SpeechEnded):
            turns.append(Turn(first, number, int(loud(event.audio).argmax())))
        elif event is not None:
            first = number - ONSET_FRAMES + 1
    return turns
