"""The audit log's chain: whole, damaged, torn."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.api.audit_chain import Deed, Head, Verdict, append, read_line, torn, verify

DEED = Deed("call.hangup", "done", "bot", "127.0.0.1", "CA" + "0" * 32)


def chain(*deeds: Deed, head: Head | None = None) -> tuple[list[bytes], Head]:
    """Lines of these deeds, and the head after them."""
    lines, last = [], head or Head()
    for second, deed in enumerate(deeds):
        line, last = append(last, deed, 1e9 + second)
        lines.append(line)
    return lines, last


def test_a_line() -> None:
    """All that the log is to know, and nothing else."""
    (line,), head = chain(DEED)
    entry = json.loads(line)
    assert entry == {
        "seq": 1,
        "time": "2001-09-09T01:46:40.000Z",
        "actor": "bot",
        "address": "127.0.0.1",
        "action": "call.hangup",
        "call": "CA" + "0" * 32,
        "outcome": "done",
        "prev": "0" * 64,
        "hash": head.hash,
    }
    assert read_line(line[:-1])[1] == head.hash


def test_whole() -> None:
    """A chain from its start, one from its middle (rotated), none at all."""
    lines, head = chain(*[DEED] * 5)
    assert verify(lines) == Verdict(5, head)
    assert verify(lines[2:]) == Verdict(3, head)
    assert verify([]) == Verdict(0, Head())


@pytest.mark.parametrize(
    ("damage", "line", "reason"),
    [
        (lambda lines: lines.pop(2), 3, "it is number 4, not 3"),
        (lambda lines: lines.insert(2, lines[1]), 3, "it is number 2, not 3"),
        (lambda lines: lines.insert(0, b"{}\n"), 1, "no whole line"),
        (lambda lines: lines.append(b"\n"), 6, "no whole line"),
        (lambda lines: lines.__setitem__(1, lines[1].replace(b"bot", b"eve")), 2, "changed"),
        (lambda lines: lines.__setitem__(4, lines[4].replace(b"bot", b"eve")), 5, "changed"),
        (
            lambda lines: lines.__setitem__(0, chain(DEED, head=Head(0, "1" * 64))[0][0]),
            1,
            "another",
        ),
        (
            lambda lines: lines.__setitem__(3, chain(*[DEED] * 4, head=Head(0, "1" * 64))[0][3]),
            4,
            "not chained",
        ),
    ],
)
def test_damage(damage: object, line: int, reason: str) -> None:
    """The first line that isn't right is named."""
    lines, _ = chain(*[DEED] * 5)
    damage(lines)  # type: ignore[operator]  # all of them are functions
    verdict = verify(lines)
    assert verdict.broken_line == line
    assert reason in verdict.reason


def test_torn() -> None:
    """The end of a crash is told; with the note after it the chain is whole."""
    lines, head = chain(DEED, DEED)
    rest = lines[1][:40]
    assert verify([lines[0], rest]) == Verdict(2, chain(DEED)[1], torn=True)
    after, head = chain(torn(rest), DEED, head=chain(DEED)[1])
    assert verify([lines[0], rest + b"\n", *after]) == Verdict(4, head)
    assert verify([lines[0], rest + b"x\n", *after]).broken_line == 2
    assert verify([lines[0], rest + b"\n"]).broken_line == 2


@given(st.data())
def test_any_changed_byte_shows(data: st.DataObject) -> None:
    """Whichever byte of whichever line, it isn't whole any more."""
    lines, _ = chain(*[DEED] * 3)
    text = bytearray(b"".join(lines))
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] ^= data.draw(st.integers(1, 255))
    verdict = verify(bytes(text).splitlines(keepends=True))
    assert verdict.broken_line or verdict.torn
