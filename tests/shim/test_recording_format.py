"""The sealed file: what comes out is what went in, or a beginning of it, or an error."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shim.recording_format import (
    Header,
    RecordingFileError,
    Run,
    Sealer,
    file_name,
    open_chunks,
    read_head,
)
from shim.recording_keys import RecordingKeyError, WrappingKey, parse_keys

KEY = WrappingKey(bytes(range(32)))
DATA_KEY = bytes(range(100, 132))
CHUNKS = [
    [Run(0, 0, b"\x11" * 320), Run(1, 0, b"\x22" * 480)],
    [Run(1, 480, b"\x33" * 160)],
    [Run(0, 960, b"\x44" * 7), Run(2, 1000, b"")],
]


def header(start: int = 0) -> Header:
    """What a file says in the clear."""
    return Header("CA1", "AC1", start, "2026-01-01T00:00:00Z", KEY.key_id, KEY.wrap(DATA_KEY))


def sealed(chunks: list[list[Run]], start: int = 0) -> tuple[bytes, list[bytes]]:
    """A file's head, and its chunks."""
    sealer = Sealer(header(start), DATA_KEY)
    return sealer.head, [sealer.seal(runs) for runs in chunks]


def opened(data: bytes) -> list[list[Run]]:
    """The runs of a file's chunks."""
    return [chunk.runs for chunk in open_chunks(memoryview(data), DATA_KEY)]


RUNS = st.lists(
    st.builds(Run, st.integers(0, 2), st.integers(0, 2**40), st.binary(max_size=400)), max_size=4
)


@given(st.lists(RUNS, max_size=5))
def test_there_and_back(chunks: list[list[Run]]) -> None:
    """Header and chunks come out as they went in; none of the audio is in the clear."""
    head, parts = sealed(chunks)
    data = head + b"".join(parts)
    assert read_head(memoryview(data)) == (header(), len(head))
    assert opened(data) == chunks
    for run in (run for runs in chunks for run in runs if len(run.audio) >= 16):
        assert run.audio not in data


@given(st.integers(0, 2000))
def test_cut_off(length: int) -> None:
    """Of a file that a crash has cut off the whole chunks are left."""
    head, parts = sealed(CHUNKS)
    data = (head + b"".join(parts))[:length]
    if length < len(head):
        with pytest.raises(RecordingFileError):
            read_head(memoryview(data))
    else:
        found = opened(data)
        assert found == CHUNKS[: len(found)]
        assert len(head) + sum(map(len, parts[: len(found)])) <= max(length, len(head))


@given(st.integers(0), st.integers(1, 255))
@example(0, 255)
def test_altered(at: int, change: int) -> None:
    """With any byte altered what comes out is an error, or a beginning of what went in."""
    head, parts = sealed(CHUNKS)
    data = bytearray(head + b"".join(parts))
    data[at % len(data)] ^= change
    try:
        found = opened(bytes(data))
    except RecordingFileError:
        return
    assert found == CHUNKS[: len(found)]
    assert len(found) < len(CHUNKS)


def test_out_of_order() -> None:
    """Chunks that were moved, doubled, or taken from another file are noticed."""
    head, (first, second, third) = sealed(CHUNKS)
    _, (foreign, *_) = sealed(CHUNKS, start=160)
    for chunks in ([second, first], [first, first], [foreign], [first, third, second]):
        with pytest.raises(RecordingFileError):
            opened(head + b"".join(chunks))


def test_left_out() -> None:
    """A chunk that the disk did not take is left out, and the indices show it."""
    head, (first, _, third) = sealed(CHUNKS)
    chunks = list(open_chunks(memoryview(head + first + third), DATA_KEY))
    assert [chunk.number for chunk in chunks] == [0, 2]


def test_a_huge_length() -> None:
    """A length that no chunk has is an error, when the file is long enough for it."""
    head, _ = sealed([])
    with pytest.raises(RecordingFileError, match="claims"):
        opened(head + b"\x01\x00\x00\x01" + bytes(1 << 25))


def test_names_sort_by_start() -> None:
    """Files of a call stand in a directory in their order."""
    starts = [0, 160, 8000, 80_000_000, 10**11]
    assert sorted(file_name("CA1", start) for start in starts) == [
        file_name("CA1", start) for start in starts
    ]


def test_data_keys_are_wrapped() -> None:
    """Only the key that has wrapped a data key opens it."""
    wrapped = KEY.wrap(DATA_KEY)
    assert DATA_KEY not in wrapped
    assert KEY.unwrap(wrapped) == DATA_KEY
    with pytest.raises(RecordingKeyError, match=r"does not open"):
        WrappingKey(bytes(32)).unwrap(wrapped)


def test_key_files() -> None:
    """A key a line; what is none is named by its line, and not shown."""
    good = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
    assert parse_keys([good, "", good]) == (KEY, KEY)
    for lines, what in (
        ([], "it is empty"),
        (["secret"], "line 1: it is no base64"),
        ([good, "AAEC"], "line 2: it has 3 bytes"),
    ):
        with pytest.raises(RecordingKeyError) as refused:
            parse_keys(lines)
        assert str(refused.value) == what
