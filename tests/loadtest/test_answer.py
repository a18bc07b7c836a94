"""The phone that takes calls, called by the other phone."""

import asyncio
import signal
import socket
import sys
from pathlib import Path

from loadtest import audio
from loadtest.sip_phone import CallPlan, SipPhone
from loadtest.stack import free_port
from tests.shim.polling import until


async def test_a_call_is_answered_and_told_of(tmp_path: Path) -> None:
    """The caller hears its tone, and it says which tone the caller said; Ctrl-C ends it."""
    port = free_port(socket.SOCK_DGRAM)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtest.answer", "--port", str(port), "--ring", "0.1"),
        *("--to", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert b"answering" in await process.stdout.readline()
    async with SipPhone() as phone:
        plan = CallPlan(
            to=f"sip:5551234@127.0.0.1:{port}", audio=audio.tone(700, 1.0), audio_loop=True
        )
        call = phone.start(plan)
        await until(lambda: len(call.heard_since(0)) > 40, "a second of its tone")
        call.hang_up()
        assert (await call.record).ended_by == "caller"
    assert await process.stdout.readline() == b"answer-1: 5551234 is called\n"
    story = (await process.stdout.readline()).decode()
    assert "ended by the caller, heard tones of 700 Hz" in story
    await until((tmp_path / "answer-1.wav").exists, "the WAV")
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0
