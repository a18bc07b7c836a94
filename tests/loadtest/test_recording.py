"""What is measured from packets, on packets made by hand."""

import random
from collections.abc import Sequence

import numpy as np
import pytest

from loadtest.audio import FRAME_BYTES, SILENT_FRAME, decode, silence, speech_burst, tone
from loadtest.recording import (
    Continuity,
    ReceivedPacket,
    continuity,
    dominant_hz,
    first_sound_ns,
    gaps,
    hears_only,
    power_share,
    timeline,
    tones_hz,
)

PTIME_NS = 20_000_000


def packets_of(
    audio: bytes,
    sequence: int = 65_530,
    timestamp: int = 2**32 - 1000,
    ssrc: int = 1,
    start_ns: int = 10**15,
) -> list[ReceivedPacket]:
    """A perfect stream of this audio; both counters wrap early in it."""
    return [
        ReceivedPacket(
            start_ns + index * PTIME_NS,
            (sequence + index) % 2**16,
            (timestamp + index * FRAME_BYTES) % 2**32,
            ssrc,
            0,
            audio[index * FRAME_BYTES : (index + 1) * FRAME_BYTES],
        )
        for index in range(len(audio) // FRAME_BYTES)
    ]


def arriving(
    packets: Sequence[ReceivedPacket], arrivals_ms: Sequence[float]
) -> list[ReceivedPacket]:
    """The same packets at other times."""
    return [
        ReceivedPacket(int(ms * 1e6), p.sequence, p.timestamp, p.ssrc, p.payload_type, p.payload)
        for p, ms in zip(packets, arrivals_ms, strict=True)
    ]


def test_a_perfect_stream() -> None:
    """Nothing lost over the wrap, 50 packets a second, no gap off."""
    packets = packets_of(tone(440, 2.0))
    assert continuity(packets) == Continuity(received=100)
    measured = gaps(packets)
    assert measured is not None
    assert (measured.p50_ms, measured.p99_ms, measured.max_ms) == (20.0, 20.0, 20.0)
    assert (measured.off_share, measured.packets_per_second) == (0.0, 50.0)
    assert timeline(packets).tolist() == decode(tone(440, 2.0)).tolist()


def test_loss_duplicates_and_reordering_are_told_apart() -> None:
    """Two lost, one twice, two swapped: each is counted once, for what it is."""
    packets = packets_of(tone(440, 1.0))
    del packets[30], packets[20]
    packets.insert(11, packets[10])
    packets[40], packets[41] = packets[41], packets[40]
    assert continuity(packets) == Continuity(received=49, lost=2, duplicates=1, reordered=1)


def test_the_first_packet_may_be_the_late_one() -> None:
    """A packet from before the first is reordered, not a wrap of 65,535."""
    packets = packets_of(tone(440, 0.1))
    packets[0], packets[1] = packets[1], packets[0]
    assert continuity(packets) == Continuity(received=5, reordered=1)
    assert timeline(packets).tolist() == decode(tone(440, 0.1)).tolist()


def test_a_change_of_ssrc_is_counted_and_no_loss() -> None:
    """The new source has sequence numbers of its own."""
    later = packets_of(tone(440, 1.0), sequence=7, ssrc=2)
    assert continuity(packets_of(tone(440, 1.0)) + later) == Continuity(
        received=100, ssrc_changes=1
    )


def test_nothing_heard() -> None:
    """No packets: counts are zero, there is no cadence, no sound and no tone."""
    assert continuity([]) == Continuity()
    assert gaps([]) is None
    assert gaps(packets_of(SILENT_FRAME)) is None
    assert timeline([]).tolist() == []
    assert first_sound_ns([]) is None
    assert dominant_hz(timeline([])) is None
    assert (tones_hz(timeline([])), power_share(timeline([]), 440)) == ([], 0.0)
    assert not hears_only(timeline([]), 440)


def test_gaps_show_the_stall() -> None:
    """One packet 100 ms late, and five behind it at once: 6 of 9 gaps are off."""
    packets = arriving(packets_of(silence(0.2)), [0, 20, 40, 60, 180, 180, 180, 180, 180, 181.5])
    measured = gaps(packets)
    assert measured is not None
    assert measured.max_ms == 120.0
    assert measured.off_share == pytest.approx(6 / 9)
    assert measured.packets_per_second == pytest.approx(9 / 0.1815)


def test_off_share_allows_2_ms() -> None:
    """18 to 22 ms are on time."""
    measured = gaps(arriving(packets_of(silence(0.08)), [0, 18, 40, 62.1]))
    assert measured is not None
    assert measured.off_share == pytest.approx(1 / 3)


def test_timeline_puts_packets_where_they_belong() -> None:
    """Shuffled within a second and with one missing, the sound is the same but for the hole."""
    audio = speech_burst(1.0)
    packets = packets_of(audio)
    missing = packets.pop(25)
    shuffled = packets[:1] + random.Random(1).sample(packets[1:], len(packets) - 1)
    expected = decode(audio.replace(missing.payload, SILENT_FRAME))
    assert timeline(shuffled).tolist() == expected.tolist()


def test_timeline_goes_on_by_the_clock_when_the_timestamps_start_anew() -> None:
    """Another SSRC, or a jump of the timestamps: the sound stands where it was heard."""
    first = packets_of(tone(440, 0.2))
    for second in (
        packets_of(tone(660, 0.2), timestamp=5, ssrc=2, start_ns=10**15 + 20 * PTIME_NS),
        packets_of(tone(660, 0.2), timestamp=10**9, start_ns=10**15 + 20 * PTIME_NS),
    ):
        expected = tone(440, 0.2) + silence(0.2) + tone(660, 0.2)
        assert timeline(first + second).tolist() == decode(expected).tolist()


def test_timeline_leaves_telephone_events_out() -> None:
    """Payload type 101 is no sound."""
    packets = packets_of(tone(440, 0.1))
    event = ReceivedPacket(packets[2].at_ns, 1, packets[2].timestamp, 1, 101, b"\x01\x0a\x00\xa0")
    assert timeline([*packets[:3], event, *packets[3:]]).tolist() == timeline(packets).tolist()


def test_first_sound_is_the_first_loud_packet() -> None:
    """Silence and idle noise are passed over; `after_ns` asks for a later one."""
    noise = bytes([0xFE, 0x7E]) * 800
    packets = packets_of(noise + tone(440, 0.1) + silence(0.2) + tone(440, 0.1))
    assert first_sound_ns(packets) == packets[10].at_ns
    assert first_sound_ns(packets, after_ns=packets[20].at_ns) == packets[25].at_ns
    assert first_sound_ns(packets, after_ns=packets[-1].at_ns + 1) is None


@pytest.mark.parametrize("frequency_hz", [300.0, 437.0, 1002.5, 1843.0, 3300.0])
def test_a_tone_is_found(frequency_hz: float) -> None:
    """Within 1 Hz, with all of its power, and no other beside it."""
    pcm = decode(silence(0.33) + tone(frequency_hz, 2.0) + silence(0.5))
    assert dominant_hz(pcm) == pytest.approx(frequency_hz, abs=1)
    assert tones_hz(pcm) == [pytest.approx(frequency_hz, abs=1)]
    assert power_share(pcm, frequency_hz) > 0.99
    assert power_share(pcm, frequency_hz + 100) < 0.01
    assert hears_only(pcm, frequency_hz)


@pytest.mark.parametrize("other_hz", [470.0, 2000.0])
@pytest.mark.parametrize("other_seconds", [0.1, 0.4])
def test_cross_talk_shows(other_hz: float, other_seconds: float) -> None:
    """A short foreign tone in the middle of a long call is heard."""
    pcm = decode(tone(440, 5.0))
    other = decode(tone(other_hz, other_seconds))
    pcm[16_000 : 16_000 + len(other)] = other
    assert not hears_only(pcm, 440)


def test_two_tones_mixed_are_both_found() -> None:
    """A mix of two callers is two tones."""
    pcm = (decode(tone(440, 1.0, 0.4)) + decode(tone(470, 1.0, 0.3))).astype(np.int16)
    assert tones_hz(pcm) == [pytest.approx(440, abs=3), pytest.approx(470, abs=3)]


def test_a_lost_packet_makes_no_tone() -> None:
    """A hole of 20 ms is not taken for another call's tone."""
    pcm = decode(tone(440, 3.0))
    pcm[8000:8160] = 0
    assert hears_only(pcm, 440)
