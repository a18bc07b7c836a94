"""A call's set-up as spans, from the running system to a collector that speaks OTLP/HTTP."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.__main__ import EXIT_CONFIG
from tests.supervisor.stack import RunningStack
from tests.system.collector import Collector, collector

STEPS = {"bridge", "media", "stream", "join_caller", "join_media"}
CHECKOUT = Path(__file__).parents[2]
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01")


def settings(heard: Collector, **more: str) -> dict[str, str]:
    """Traces go to the collector, soon; streams too, where they only have to be there."""
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": heard.base,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "LOG_LEVEL": "DEBUG",
        **more,
    }


async def started(stack: RunningStack) -> RunningStack:
    """Enter it without holding up the collector, which lives in this loop."""
    return await asyncio.to_thread(stack.__enter__)


async def check_traced(stack: RunningStack, heard: Collector) -> None:
    """A call makes one root and five steps, with the CallSid's trace, within the root's time."""
    await asyncio.to_thread(started_call_is_over, stack)
    call_sid = stack.events("call_ended")[0]["call_id"]
    await stack.until(lambda: heard.named("call set-up"), "the root")
    [root] = heard.named("call set-up")
    children = [span for span in heard.spans if span.parent_span_id == root.span_id]
    assert {span.name for span in children} == STEPS
    assert {span.trace_id.hex() for span in heard.spans} == {call_sid.removeprefix("CA")}
    assert all(
        root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        for span in children
    )
    assert max(span.end_time_unix_nano for span in children) <= root.end_time_unix_nano
    attributes = {each.key: each.value for each in root.attributes}
    assert attributes["ots.call_sid"].string_value == call_sid
    assert attributes["ots.outcome"].string_value == "up"
    assert attributes["ots.direction"].string_value == "inbound"
    assert {"ots.worker", "cpu.logical_number"} <= set(attributes)
    assert heard.services == {"open-telephony-stack"}


def started_call_is_over(stack: RunningStack) -> None:
    """Poll for the log's line."""
    stack.wait_until(lambda: bool(stack.events("call_ended")), 10.0, "the call's end")


async def one_call(stack: RunningStack) -> None:
    """A call that comes up, and is hung up."""
    async with stack.calling():
        await stack.until_up()


async def test_a_call_is_a_trace() -> None:
    """On the stand-in; the log and the exported bytes hold no number."""
    async with collector() as heard:
        stack = await started(RunningStack(settings=settings(heard)))
        try:
            await one_call(stack)
            await check_traced(stack, heard)
        finally:
            await asyncio.to_thread(stack.__exit__)


@pytest.mark.asterisk
async def test_a_call_on_the_real_asterisk(asterisk_rootfs: Path) -> None:
    """The same, with Asterisk's own times."""
    async with collector() as heard:
        stack = await started(RunningStack(real=True, settings=settings(heard)))
        try:
            await one_call(stack)
            await check_traced(stack, heard)
        finally:
            await asyncio.to_thread(stack.__exit__)


async def test_the_voice_server_joins() -> None:
    """Its handshake brings the trace, and the span of the stream's step."""
    async with collector() as heard:
        more = {"ECS_MEDIA_WSS_URL": heard.stream_url}
        stack = await started(RunningStack(settings=settings(heard, **more)))
        try:
            async with stack.calling():
                await stack.until(lambda: heard.named("stream"), "the stream's span")
        finally:
            await asyncio.to_thread(stack.__exit__)
        [stream] = heard.named("stream")
        [headers] = heard.handshakes
        parent = TRACEPARENT.fullmatch(headers["traceparent"])
        assert parent is not None
        assert parent.groups() == (stream.trace_id.hex(), stream.span_id.hex())


async def test_without_a_collector_no_header_and_no_import() -> None:
    """Nothing is loaded, and the voice server sees what it always saw."""
    async with collector() as heard:
        stack = RunningStack(settings={"ECS_MEDIA_WSS_URL": heard.stream_url})
        await started(stack)
        try:
            maps_path = Path(f"/proc/{stack.supervisor.pid}/maps")
            maps = await asyncio.to_thread(maps_path.read_text)
            async with stack.calling():
                await stack.until(lambda: heard.handshakes, "the handshake")
        finally:
            await asyncio.to_thread(stack.__exit__)
        assert "traceparent" not in heard.handshakes[0]
        assert "google/_upb" not in maps  # protobuf's library


@pytest.mark.parametrize("status", [0, 400, 503])
async def test_a_dead_collector_costs_no_call(status: int) -> None:
    """Nobody listens, or it refuses: calls are as ever, with one line about it."""
    async with collector() as heard:
        heard.status = status
        more = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
        if not status:
            more["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
        stack = await started(RunningStack(settings=settings(heard) | more))
        try:
            for _ in range(3):
                await one_call(stack)
            told = "traces_not_exported"
            await stack.until(lambda: stack.events(told), "it is told")
            await stack.until_idle()
            assert await asyncio.to_thread(stack.supervisor.stop) == 0
            assert len(stack.events("call_ended")) == 3
            [line] = stack.events("traces_not_exported")
            assert line["reason"]
            assert not stack.events("library")
        finally:
            await asyncio.to_thread(stack.__exit__)


async def test_a_collector_that_hangs_does_not_hold_up_the_end() -> None:
    """It is waited for 3 s, and the supervisor ends as ever, without a word of its thread."""
    async with collector() as heard:
        heard.answers.clear()
        stack = await started(RunningStack(settings=settings(heard)))
        try:
            await one_call(stack)
            await stack.until(lambda: heard.requests, "spans are sent")
            assert await asyncio.to_thread(stack.supervisor.stop) == 0
            assert len(stack.events("traces_lost_at_the_end")) == 1
            assert not stack.events("crashed")
        finally:
            heard.answers.set()
            await asyncio.to_thread(stack.__exit__)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    """One line, and exit code 78."""
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("raise ImportError('not here')")
    needed = {"ARI_USER": "u", "ARI_PASS": "p", "ECS_MEDIA_WSS_URL": "ws://127.0.0.1:1/x"}
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    ended = subprocess.run(
        [sys.executable, "-m", "supervisor"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{CHECKOUT}"} | needed | traces,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == EXIT_CONFIG
    [line] = ended.stderr.splitlines()
    assert "OpenTelemetry isn't installed" in line
    assert "uv sync --locked --no-dev --extra traces" in line
