"""The lines of the audit log, each chained to the one before it by SHA-256. Pure.

A line is a JSON object. Its last field `hash` is the SHA-256 of the line without that field, and
`prev` is the hash of the line before; so a line that was changed, taken out or put in shows. The
chain has no key: who can write the whole file can compute it anew. Against that, keep the last
hash (the head) elsewhere now and then.
"""

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Struct

START: Final = "0" * 64
"""What the first line is chained to."""
TORN: Final = "audit.torn-line"
LOST: Final = "audit.lines-lost"
HASH_FIELD: Final = b',"hash":"'
TAIL_BYTES: Final = len(HASH_FIELD) + 64 + len(b'"}')


class Deed(Struct, frozen=True):
    """Who did what to which call, and what came of it. No numbers, no TwiML: nothing of a caller.

    `outcome` is `done`, `refused:CODE` or `denied:CODE`, with Twilio's code.
    """

    action: str
    outcome: str
    actor: str = "unknown"
    address: str = ""
    call: str = ""


class Entry(Struct, frozen=True):
    """A line without its hash."""

    seq: int
    time: str
    actor: str
    address: str
    action: str
    call: str
    outcome: str
    prev: str


class Head(Struct, frozen=True):
    """Where a chain ends: the last line's number and hash."""

    seq: int = 0
    hash: str = START


class Verdict(Struct, frozen=True):
    """What a check found: `broken_line` counts from 1, 0 for none. `torn`: the end is cut off."""

    lines: int
    head: Head
    broken_line: int = 0
    reason: str = ""
    torn: bool = False


def append(head: Head, deed: Deed, unix_s: float) -> tuple[bytes, Head]:
    """The next line, with its end, and the head after it."""
    when = datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")
    entry = Entry(
        seq=head.seq + 1,
        time=when.replace("+00:00", "Z"),
        actor=deed.actor,
        address=deed.address,
        action=deed.action,
        call=deed.call,
        outcome=deed.outcome,
        prev=head.hash,
    )
    body = msgspec.json.encode(entry)
    digest = hashlib.sha256(body).hexdigest()
    line = body[:-1] + HASH_FIELD + digest.encode() + b'"}\n'
    return line, Head(entry.seq, digest)


def torn(rest: bytes) -> Deed:
    """What is written after a line that was cut off, which stays as it is."""
    digest = hashlib.sha256(rest).hexdigest()
    return Deed(action=TORN, outcome=f"sha256:{digest}", actor="supervisor")


def read_line(line: bytes) -> tuple[Entry, str]:
    """A line (without its end) and its hash; raises ValueError if it isn't as it was written."""
    body, tail = line[:-TAIL_BYTES] + b"}", line[-TAIL_BYTES:]
    if not (tail.startswith(HASH_FIELD) and tail.endswith(b'"}')):
        raise ValueError("it is no whole line of an audit log")
    digest = tail[len(HASH_FIELD) : -2].decode("ascii", errors="replace")
    if hashlib.sha256(body).hexdigest() != digest:
        raise ValueError("it was changed")
    try:
        return msgspec.json.decode(body, type=Entry), digest
    except msgspec.DecodeError as error:
        raise ValueError(f"it is no line of an audit log: {error}") from error


def verify(lines: Iterable[bytes]) -> Verdict:
    """Check a file's lines, each with its end. A file that was rotated may begin anywhere.

    A line that was cut off is excused by the note after it, or by being the last.
    """
    head: Head | None = None
    broken: Verdict | None = None
    number, line, raw = 0, b"", b""
    for number, raw in enumerate(lines, 1):
        before, line = line, raw.removesuffix(b"\n")
        try:
            entry, digest = read_line(line)
            if broken and torn(before).outcome != entry.outcome:
                return broken
            _check_follows(head, entry)
        except ValueError as error:
            if broken:
                return broken
            broken = Verdict(number, head or Head(), number, str(error))
        else:
            head, broken = Head(entry.seq, digest), None
    cut_off = not raw.endswith(b"\n") and number > 0
    if broken and not cut_off:
        return broken
    return Verdict(number, head or Head(), torn=cut_off)


def _check_follows(head: Head | None, entry: Entry) -> None:
    """Raises ValueError if an entry can't be the next after a head."""
    if head is None:
        if entry.seq == 1 and entry.prev != START:
            raise ValueError("it is number 1, but chained to another line")
    elif entry.seq != head.seq + 1:
        expected = head.seq + 1
        raise ValueError(f"it is number {entry.seq}, not {expected}: lines are missing or added")
    elif entry.prev != head.hash:
        raise ValueError("it is not chained to the line before")
