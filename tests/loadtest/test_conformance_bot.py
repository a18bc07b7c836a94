"""The conformance kit on bots that do well, and on bots that do one thing wrong."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from http import HTTPStatus
from typing import NamedTuple

import pytest
from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from loadtest import audio, conformance_bot
from loadtest.conformance_dial import Bot
from loadtest.conformance_examination import Examination
from loadtest.conformance_report import Check, Outcome, name_of, run_checks
from tests.loadtest import conformance_bots as bots
from tests.shim.raw_server import RawConnection, RawServer

TOKEN = "0123456789abcdef0123456789abcdef"
WAV_HEADER = b"RIFF\x24\x80\x00\x00WAVEfmt "
PCM16 = b"".join(value.to_bytes(2, "little", signed=True) for value in range(-200, 200))


def bot_at(url: str, token: str = "") -> Bot:
    """A bot to be examined quickly."""
    return Bot(url, token, patience_s=0.6, silence_s=0.9, utterance_s=0.3)


async def examine(bot: Bot, *checks: Check[Examination]) -> list[Outcome]:
    """Run checks, without the gate that the first one is."""
    examined = Examination(bot)
    return [
        outcome
        for check in checks
        for outcome in await run_checks([check], examined, lambda _: None)
    ]


class Faulty(NamedTuple):
    """A bot that does one thing wrong, the check that must find it, and part of what it says."""

    bot: type[bots.GoodBot]
    check: str
    detail: str


class Found(NamedTuple):
    """What came of whole examinations, and of single checks on faulty bots."""

    whole: dict[type[bots.GoodBot], list[Outcome]]
    faults: dict[Faulty, Outcome]


MEDIA = '{"event": "media", "streamSid": "SID", "media": {"payload": "%s"}}'
OTHER_SID = "MZ" + "0" * 32

FAULTY_MESSAGES = [
    Faulty(
        bots.saying(b"\x00"),
        "sends_only_known_messages",
        "expected text messages; came a binary message of 1",
    ),
    Faulty(bots.saying("hello"), "sends_only_known_messages", "expected JSON; came 'hello'"),
    Faulty(bots.saying("[1]"), "sends_only_known_messages", "expected a JSON object; came [1]"),
    Faulty(
        bots.saying('{"event": "say", "streamSid": "SID"}'),
        "sends_only_known_messages",
        "came 'say'",
    ),
    Faulty(
        bots.saying('{"event": "media", "streamSid": "SID"}'),
        "sends_only_known_messages",
        "media with payload",
    ),
    Faulty(
        bots.saying('{"event": "mark", "streamSid": "SID"}'),
        "sends_only_known_messages",
        "mark with name",
    ),
    Faulty(
        bots.saying(f'{{"event": "clear", "streamSid": "{OTHER_SID}"}}'),
        "names_its_stream",
        f"came '{OTHER_SID}'",
    ),
    Faulty(
        bots.saying(MEDIA % "no base64"),
        "encodes_audio_in_base64",
        "expected base64; came 'no base64'",
    ),
    Faulty(
        bots.saying(MEDIA % b64encode(WAV_HEADER).decode()),
        "sends_raw_mulaw",
        "the header of a WAV file",
    ),
    Faulty(bots.saying(MEDIA % b64encode(PCM16).decode()), "sends_raw_mulaw", "16-bit linear PCM"),
    Faulty(
        bots.saying(MEDIA % ("/" * (1 << 20))), "keeps_messages_small", "1048576 bytes in a message"
    ),
]

FAULTY_BOTS = [
    Faulty(bots.SidlessBot, "names_its_stream", "came None (and 4 more)"),
    Faulty(
        bots.playing(audio.SILENT_FRAME * 500, 61), "keeps_within_the_buffer", "at most 600000 ms"
    ),
    Faulty(bots.ImpatientBot, "holds_a_conversation", "close code 1011 (the bot broke)"),
    Faulty(bots.MarkFearingBot, "goes_on_after_its_marks", "after its mark came back"),
    Faulty(bots.BurstFearingBot, "goes_on_after_marks_in_a_burst", "after 2 marks in a burst"),
    Faulty(bots.ClearLosingBot, "goes_on_after_its_clear", "after clear"),
    Faulty(bots.StrictBot, "survives_unknown_fields", "after messages with additional fields"),
    Faulty(bots.DigitFearingBot, "survives_digits", "after the digits"),
    Faulty(bots.ImpatientBot, "survives_a_long_silence", "after 0.9 s of silence"),
    Faulty(bots.GapFearingBot, "survives_a_gap", "after 0.5 s without media"),
    Faulty(bots.OneCallBot, "keeps_calls_apart", "the stream of the call beside it"),
    Faulty(bots.ForgetfulBot, "takes_a_stream_again", "after start with resumed"),
    Faulty(bots.FragileBot, "survives_an_abrupt_close", "in the next call"),
]


@pytest.fixture(scope="module")
def found() -> Found:
    """What the kit finds of all these bots, which are examined at the same time."""
    return asyncio.run(_find())


async def _find() -> Found:
    async with asyncio.TaskGroup() as tasks:
        whole = {
            bot: tasks.create_task(_examine_whole(bot)) for bot in (bots.GoodBot, bots.SilentBot)
        }
        faults = {
            faulty: tasks.create_task(_examine_one(faulty))
            for faulty in FAULTY_MESSAGES + FAULTY_BOTS
        }
    return Found(
        {bot: task.result() for bot, task in whole.items()},
        {faulty: task.result() for faulty, task in faults.items()},
    )


async def _examine_whole(bot: type[bots.GoodBot]) -> list[Outcome]:
    async with bots.running(bot) as url:
        return await run_checks(conformance_bot.CHECKS, Examination(bot_at(url)), lambda _: None)


async def _examine_one(faulty: Faulty) -> Outcome:
    async with bots.running(faulty.bot) as url:
        [outcome] = await examine(bot_at(url), getattr(conformance_bot, faulty.check))
    return outcome


@pytest.mark.parametrize("bot", [bots.GoodBot, bots.SilentBot])
def test_no_rule_is_broken(found: Found, bot: type[bots.GoodBot]) -> None:
    """A bot that does all well passes, and so does one that only listens."""
    assert [outcome for outcome in found.whole[bot] if outcome.verdict == "failed"] == []
    assert len(found.whole[bot]) == len(conformance_bot.CHECKS)


def test_what_cannot_be_judged_is_not_applicable(found: Found) -> None:
    """For a good bot only the token's checks; for a silent one also audio, marks and clear."""
    skipped = {
        bot: {outcome.name: outcome.detail for outcome in outcomes if outcome.verdict == "n/a"}
        for bot, outcomes in found.whole.items()
    }
    assert list(skipped[bots.GoodBot]) == ["accepts-its-signature", "refuses-a-wrong-signature"]
    assert skipped[bots.SilentBot]["sends-raw-mulaw"] == "the bot sent no media"
    assert skipped[bots.SilentBot]["goes-on-after-its-marks"] == "the bot sent no mark"
    assert len(skipped[bots.SilentBot]) == 11


@pytest.mark.parametrize("faulty", FAULTY_MESSAGES + FAULTY_BOTS)
def test_a_fault_is_found(found: Found, faulty: Faulty) -> None:
    """The check that fails says what was expected, and what came."""
    outcome = found.faults[faulty]
    assert outcome.verdict == "failed"
    assert faulty.detail in outcome.detail


async def test_a_bot_may_end_the_call() -> None:
    """With 1000 that is no failure, but worth a remark."""
    async with bots.running(bots.PoliteBot) as url:
        [outcome] = await examine(bot_at(url), conformance_bot.survives_digits)
    assert (outcome.verdict, outcome.detail) == ("passed", "the bot ended the call with 1000")


async def accept_and_ignore(connection: RawConnection) -> None:
    """Upgrade, read on, and answer nothing: no pong, no close frame."""
    await connection.accept()
    await connection.read_frames()


async def test_a_bot_that_answers_nothing_is_found() -> None:
    """Neither pings nor the closing handshake, each within its time."""
    async with RawServer(accept_and_ignore) as server:
        bot = bot_at(server.url)
        checks = (conformance_bot.answers_pings, conformance_bot.ends_after_stop)
        both = await asyncio.gather(*(examine(bot, check) for check in checks))
    assert [outcome.detail for [outcome] in both] == [
        "expected a pong within 5 s; came none",
        "expected a close frame within 5 s after stop and ours; came none",
    ]


def checks_signatures(connection: ServerConnection, request: Request) -> Response | None:
    """Refuse what Twilio's own validator refuses, as Twilio's samples do."""
    url = f"ws://{request.headers['Host']}{request.path}"
    signature = request.headers.get("X-Twilio-Signature", "")
    if RequestValidator(TOKEN).validate(url, {}, signature):
        return None
    return connection.respond(HTTPStatus.FORBIDDEN, "the signature is wrong\n")


async def test_a_bot_that_checks_signatures() -> None:
    """It passes with its token, and is closed to callers without it or with another."""
    signature = (conformance_bot.accepts_its_signature, conformance_bot.refuses_a_wrong_signature)
    async with bots.running(bots.GoodBot, process_request=checks_signatures) as url:
        accepted, refused = await examine(bot_at(url, TOKEN), *signature)
        [unsigned] = await examine(bot_at(url), conformance_bot.accepts_the_websocket)
        [wrong] = await examine(bot_at(url, "another"), conformance_bot.accepts_its_signature)
    assert (accepted.verdict, refused.verdict) == ("passed", "passed")
    assert refused.detail == "refused with HTTP 403"
    assert unsigned.detail == "expected the WebSocket to be accepted (HTTP 101); came HTTP 403"
    assert wrong.verdict == "failed"


async def test_a_bot_that_checks_no_signature_passes_with_a_remark() -> None:
    """Twilio can't see it either."""
    async with bots.running(bots.GoodBot) as url:
        [outcome] = await examine(bot_at(url, TOKEN), conformance_bot.refuses_a_wrong_signature)
    assert outcome.verdict == "passed"
    assert "accepts wrong signatures too" in outcome.detail


async def test_the_handshake_is_like_twilios() -> None:
    """No Origin, subprotocol, extension; then connected and start, with all fields."""
    requests: list[Request] = []
    heard: list[bots.Message] = []

    class ListeningBot(bots.SilentBot):
        async def serve(self) -> None:
            async for text in self.websocket:
                heard.append(json.loads(text))

    def keep(connection: ServerConnection, request: Request) -> None:
        requests.append(request)

    async with bots.running(ListeningBot, process_request=keep) as url:
        await examine(bot_at(url), conformance_bot.survives_an_early_hang_up)
    names = {name.lower() for name in requests[0].headers}
    assert names == {
        "host",
        "upgrade",
        "connection",
        "sec-websocket-key",
        "sec-websocket-version",
        "user-agent",
    }
    sid = heard[1]["streamSid"]
    assert [message["event"] for message in heard[:2]] == ["connected", "start"]
    stop = next(message for message in heard if message["event"] == "stop")
    assert stop == {
        "event": "stop",
        "sequenceNumber": str(heard.index(stop)),
        "streamSid": sid,
        "stop": {
            "accountSid": heard[1]["start"]["accountSid"],
            "callSid": heard[1]["start"]["callSid"],
        },
    }


async def test_nothing_else_is_tried_where_nobody_is() -> None:
    """The first check is the gate."""
    outcomes = await run_checks(
        conformance_bot.CHECKS, Examination(bot_at("ws://127.0.0.1:1/")), lambda _: None
    )
    assert [(outcome.name, outcome.verdict) for outcome in outcomes] == [
        (name_of(conformance_bot.accepts_the_websocket), "failed")
    ]
    assert "ConnectionRefusedError" in outcomes[0].detail
