"""A call's decisions on literal events and times."""

from voice_agent.agent import Clear, Mark, PassedMark, Play
from voice_agent.call_outputs import Later, Output
from voice_agent.conversation import AnswerTurn, CallerTurn
from voice_agent.mulaw import silence
from voice_agent.realtime_call import RealtimeCall
from voice_agent.realtime_messages import (
    AudioCommitted,
    AudioDelta,
    CancelResponse,
    CreateResponse,
    Response,
    ResponseCreated,
    ResponseDone,
    SpeechStarted,
    SpeechStopped,
    TranscriptDelta,
)

FRAME = silence(20)


def answering(call: RealtimeCall, response_id: str = "r1", item_id: str = "a1") -> list[Output]:
    """The response that was asked for begins with 200 ms of audio."""
    call.on_event(ResponseCreated(Response(response_id)))
    call.on_event(TranscriptDelta(response_id, item_id, "0123456789"))
    return call.on_event(AudioDelta(response_id, item_id, silence(200)))


def speak(call: RealtimeCall, duration_ms: int, now_s: float = 0.0) -> list[Output]:
    """The caller's voice; only what is not the audio itself is returned."""
    out: list[Output] = []
    for _ in range(duration_ms // 20):
        out += call.on_audio(FRAME, voiced=True, now_s=now_s)[1:]
    return out


def test_the_greeting_is_asked_for_once() -> None:
    """A session that is opened again does not greet again when it was done."""
    call = RealtimeCall(250)
    assert call.opened() == [CreateResponse("respond-1")]
    answering(call)
    call.on_event(ResponseDone(Response("r1", "completed")))
    assert not any(isinstance(out, CreateResponse) for out in call.opened())


def test_the_first_mark_comes_after_one_frame() -> None:
    """So that the time until the first audio was heard is known to a frame."""
    call = RealtimeCall(250)
    call.opened()
    assert answering(call) == [
        Play(silence(20)),
        Mark("a1/20"),
        Play(silence(180)),
        Mark("a1/200"),
    ]


def test_the_time_until_an_answer_is_heard() -> None:
    """From the last voiced frame to the start of the audio."""
    call = RealtimeCall(250)
    call.opened()
    call.on_event(ResponseCreated(Response("r0")))
    call.on_event(ResponseDone(Response("r0", "completed")))
    speak(call, 400, now_s=10.0)
    call.on_event(SpeechStarted())
    call.on_event(SpeechStopped("c1"))
    assert call.on_event(AudioCommitted("c1")) == [CreateResponse("respond-2")]
    answering(call)
    call.on_mark(PassedMark("a1/20", 20, 0), 10.82)
    turn = call.conversation.turns[-1]
    assert isinstance(turn, AnswerTurn)
    assert turn.response_ms == 800


def test_speech_interrupts_when_it_was_long_enough() -> None:
    """Both have to hear it: the API, and the voice detector here for the time that is set."""
    call = RealtimeCall(100)
    call.opened()
    answering(call)
    assert speak(call, 200) == [], "the API heard nothing"
    assert call.on_event(SpeechStarted()) == [Clear(), CancelResponse()]
    assert speak(call, 200) == [], "once is enough"


def test_never_two_answers_at_once() -> None:
    """A turn that is over before the cancelled response is done waits for that."""
    call = RealtimeCall(100)
    call.opened()
    answering(call)
    speak(call, 100)
    call.on_event(SpeechStarted())
    call.on_event(SpeechStopped("c1"))
    assert call.on_event(AudioCommitted("c1")) == []
    assert call.on_event(AudioDelta("r1", "a1", silence(100))) == [], "late audio"
    out = call.on_event(ResponseDone(Response("r1", "cancelled")))
    assert out[-1] == CreateResponse("respond-2")
    assert call.on_event(ResponseDone(Response("r1", "cancelled"))) == [], "twice is once"


def test_a_session_lost_in_an_answer_is_asked_again() -> None:
    """What was heard of the answer is told to the new session."""
    call = RealtimeCall(100)
    call.opened()
    answering(call)
    assert isinstance(call.opened()[-1], CreateResponse)


def test_what_was_not_heard_was_not_said() -> None:
    """The text of an interrupted answer is cut in proportion."""
    turn = AnswerTurn("a", "0123456789", audio_bytes=1600, heard_ms=100, cut=True)
    assert turn.heard_text == "01234"


def test_keys_are_told_when_the_last_one_is_long_enough_ago() -> None:
    """An earlier key's timer does nothing."""
    call = RealtimeCall(100)
    [first] = call.on_digit("1")
    [second] = call.on_digit("2")
    assert isinstance(first, Later)
    assert isinstance(second, Later)
    assert call.wake(first) == []
    assert isinstance(call.wake(second)[-1], CreateResponse)
    turn = call.conversation.turns[-1]
    assert isinstance(turn, CallerTurn)
    assert turn.text.endswith("12)")


def test_retries_are_counted_and_overtaken() -> None:
    """Twice, then the caller has to speak; a turn in between makes the timer void."""
    call = RealtimeCall(100)
    call.opened()
    waits = []
    for number in (1, 2, 3):
        call.on_event(ResponseCreated(Response(f"r{number}")))
        out = call.on_event(ResponseDone(Response(f"r{number}", "failed")))
        waits += [later.after_s for later in out if isinstance(later, Later)]
        if number < 3:
            assert isinstance(out[0], Later)
            assert isinstance(call.wake(out[0])[0], CreateResponse)
            assert call.wake(out[0]) == []
    assert waits == [0.5, 2.0]
