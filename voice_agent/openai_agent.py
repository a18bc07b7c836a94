"""The agent that lets an OpenAI Realtime session talk to the caller."""

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

from voice_agent.agent import Act, Action, Agent, CallMetadata, PassedMark, SendDigits
from voice_agent.call_outputs import Later, Output, RunTool
from voice_agent.call_record import Recorder
from voice_agent.config import Config
from voice_agent.realtime_call import RealtimeCall
from voice_agent.realtime_link import RealtimeLink
from voice_agent.realtime_messages import ClientEvent, ServerEvent, SessionSettings
from voice_agent.tools import ToolCall, Tools, standard_tools
from voice_agent.transfer import transfer_tool
from voice_agent.voice_detector import VoiceDetector

log = structlog.get_logger()

KEEP_S: Final = 60.0
"""How long a conversation waits for its stream to be resumed."""


class KeptCalls:
    """Conversations whose stream ended, by its id, for `KEEP_S`."""

    def __init__(self) -> None:
        self._calls: dict[str, tuple[float, RealtimeCall]] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def put(self, stream_sid: str, call: RealtimeCall, now_s: float) -> None:
        """Keep a conversation."""
        self._forget(now_s)
        self._calls[stream_sid] = (now_s, call)

    def take(self, stream_sid: str, now_s: float) -> RealtimeCall | None:
        """The conversation of a stream, if it ended not too long ago; it is kept no longer."""
        self._forget(now_s)
        _, call = self._calls.pop(stream_sid, (0.0, None))
        return call

    def _forget(self, now_s: float) -> None:
        old = [sid for sid, (kept_s, _) in self._calls.items() if now_s - kept_s > KEEP_S]
        for sid in old:
            del self._calls[sid]


def _tools_of(config: Config) -> Tools:
    """The standard tools, and `transfer_call` where the operator says to whom."""
    tools = standard_tools(config.openai_tool_timeout_s)
    if targets := config.transfer_targets():
        key = config.voice_agent_calls_key
        tools.add(transfer_tool(config.voice_agent_calls_url, key, targets))
    return tools


class OpenAiAgents:
    """Makes an agent for each call; holds what they share."""

    def __init__(self, config: Config, tools: Tools | None = None) -> None:
        self.config = config
        self.tools = tools or _tools_of(config)
        self.kept = KeptCalls()
        folder = config.voice_agent_record_dir
        self.recorder = Recorder(Path(folder), config.voice_agent_record_days) if folder else None
        self.session = SessionSettings(
            model=config.openai_model,
            voice=config.openai_voice,
            instructions=config.openai_instructions,
            turn_detection=config.openai_turn_detection,
            transcription_model=config.openai_transcription_model,
            tools=self.tools.schemas(),
        )

    def __call__(self) -> "OpenAiAgent":
        return OpenAiAgent(self)


class OpenAiAgent(Agent):
    """Joins one call's decisions (`RealtimeCall`) to its sessions, tools and timers."""

    def __init__(self, shared: OpenAiAgents) -> None:
        config = shared.config
        self._shared = shared
        self._call = RealtimeCall(config.openai_interrupt_ms)
        self._link = RealtimeLink(config.openai_url, config.openai_api_key, shared.session)
        self._voice = VoiceDetector()
        self._metadata: CallMetadata
        self._started_s = time.time()
        self._act: Act
        self._tasks: asyncio.TaskGroup | None = None
        self._all_heard = asyncio.Event()
        self._early: list[Output] = []
        """Tools and timers from before `run` began."""

    def on_start(self, call: CallMetadata) -> Iterable[Action]:
        self._metadata = call
        kept = self._shared.kept.take(call.stream_sid, time.monotonic())
        if call.resumed and kept is not None:
            kept.stream_resumed()
            self._call = kept
        return ()

    def on_audio(self, frame: bytes) -> Iterable[Action]:
        voiced = self._voice.is_voice(frame)
        return self._do(self._call.on_audio(frame, voiced=voiced, now_s=time.monotonic()))

    def on_dtmf(self, digit: str) -> Iterable[Action]:
        return self._do(self._call.on_digit(digit))

    def on_passed_mark(self, mark: PassedMark) -> Iterable[Action]:
        return self._do(self._call.on_mark(mark, time.monotonic()))

    def on_stop(self) -> None:
        self._shared.kept.put(self._metadata.stream_sid, self._call, time.monotonic())
        if self._shared.recorder is not None:
            turns = self._call.conversation.turns
            self._shared.recorder.write(self._metadata, self._started_s, turns)

    async def run(self, act: Act) -> None:
        """Hold a session until the call ends.

        Raises:
            ExceptionGroup: of a RealtimeError: the API can't be used.
        """
        self._act = act
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            self._apply(self._early)
            await self._link.run(self._opened, self._on_event)

    def _opened(self) -> list[ClientEvent]:
        """What a new session is told first. Nothing but events comes of its opening."""
        events: list[ClientEvent] = []
        for output in self._call.opened():
            if isinstance(output, ClientEvent):
                events.append(output)
            else:
                self._apply([output])
        return events

    def _on_event(self, event: ServerEvent) -> None:
        self._apply(self._call.on_event(event))

    def _apply(self, outputs: Iterable[Output]) -> None:
        for action in self._do(outputs):
            self._act(action)

    def _do(self, outputs: Iterable[Output]) -> list[Action]:
        """Do what is asked for, except for what the caller hears: that is returned."""
        actions: list[Action] = []
        for output in outputs:
            if isinstance(output, Action):
                actions.append(output)
            elif isinstance(output, ClientEvent):
                self._link.send(output)
            elif self._tasks is None:
                self._early.append(output)
            elif isinstance(output, RunTool):
                self._tasks.create_task(self._run_tool(output))
            else:
                self._tasks.create_task(self._wait(output))
        if self._call.all_heard:
            self._all_heard.set()
        else:
            self._all_heard.clear()
        return actions

    async def _wait(self, later: Later) -> None:
        await asyncio.sleep(later.after_s)
        self._apply(self._call.wake(later))

    async def _run_tool(self, tool: RunTool) -> None:
        started_s = time.monotonic()
        call = ToolCall(
            self._metadata.call_sid,
            leave=self._call.leave,
            send_digits=lambda digits: self._act(SendDigits(digits)),
            heard=self._all_heard.wait,
        )
        output = await self._shared.tools.run(tool.name, tool.arguments, call)
        log.info("tool_done", tool=tool.name, seconds=round(time.monotonic() - started_s, 3))
        self._apply(self._call.tool_answered(tool.call_id, output))
