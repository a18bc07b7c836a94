"""`python -m loadtest.answer`: a phone on this machine that takes calls, for trying calls out.

    python -m loadtest.answer [--port 5062] [--ring 1] [--status 200] [--tone 440] [--to out]

It rings, then answers with a SIP status: 200 takes the call and says a tone; 486 is busy, 603
declines, 0 rings until the caller gives up. Of each call it prints what became of it and which
tones were heard, and writes what was heard (left) and said (right) to TO/answer-N.wav.
"""

import argparse
import asyncio
import itertools
import sys
from pathlib import Path

from loadtest import audio, recording
from loadtest.callee_plan import CalleePlan
from loadtest.phone_plan import CallRecord
from loadtest.sip_phone import SipPhone, TakenCall


async def serve(port: int, plan: CalleePlan, directory: Path) -> None:
    """Take calls until cancelled; raises OSError when the port is another's."""
    async with SipPhone(port=port, callee=plan) as phone, asyncio.TaskGroup() as calls:
        print(f"answering at sip:anything@127.0.0.1:{port}", flush=True)
        for number in itertools.count(1):
            calls.create_task(_follow(await phone.taken.get(), directory / f"answer-{number}.wav"))


async def _follow(call: TakenCall, wav: Path) -> None:
    print(f"{wav.stem}: {call.number} is called", flush=True)
    record = await call.record
    print(f"{wav.stem}: {_story(record)}", flush=True)
    if record.packets:
        wav.parent.mkdir(parents=True, exist_ok=True)
        audio.write_wav(wav, recording.timeline(record.packets), record.sent_audio)


def _story(record: CallRecord) -> str:
    if record.answered_at is None:
        return f"{record.outcome} ({record.status})"
    seconds = record.ended_at - record.answered_at
    heard = [round(tone) for tone in recording.tones_hz(recording.timeline(record.packets))]
    tones = f"tones of {', '.join(map(str, heard))} Hz" if heard else "no tone"
    return f"{seconds:.1f} s, ended by the {record.ended_by}, heard {tones}"


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.answer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=5062)
    parser.add_argument("--ring", type=float, default=1.0, help="seconds")
    parser.add_argument("--status", type=int, default=200, help="200, 300 to 699, or 0")
    parser.add_argument("--tone", type=float, default=440.0, help="Hz")
    parser.add_argument("--to", type=Path, default=Path("out"), help="directory of the WAVs")
    options = parser.parse_args()
    if options.status not in (0, 200) and not 300 <= options.status < 700:
        parser.error(f"--status is {options.status}, allowed is 0, 200, or 300 to 699")
    plan = CalleePlan(
        ring_seconds=options.ring,
        status=options.status or None,
        audio=audio.tone(options.tone, 1.0),
        audio_loop=True,
    )
    try:
        asyncio.run(serve(options.port, plan, options.to))
    except OSError as error:
        print(f"--port is {options.port}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
