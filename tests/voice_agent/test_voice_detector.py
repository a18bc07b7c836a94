"""WebRTC's detector on synthetic audio: what it hears, and what it doesn't."""

from voice_agent.mulaw import silence
from voice_agent.sounds import tone
from voice_agent.speech import SpeechDetector, SpeechStarted
from voice_agent.voice_detector import VoiceDetector


def test_silence_and_odd_lengths_are_no_voice() -> None:
    """It takes 10, 20 and 30 ms only."""
    detector = VoiceDetector()
    assert not any(detector.is_voice(silence(20)) for _ in range(50))
    assert not detector.is_voice(b"\x00" * 33)
    assert not detector.is_voice(b"")


def test_a_voice_begins_a_turn() -> None:
    """It fits the turns' detector in the place of loudness."""
    speech = SpeechDetector(VoiceDetector().is_voice)
    voice = tone(220, 400)
    events = [speech.push(voice[at : at + 160]) for at in range(0, len(voice), 160)]
    assert SpeechStarted() in events
