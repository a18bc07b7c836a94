"""The kit on this stack's side: it passes, and a worker with wrong settings is found out."""

from loadtest import conformance_stack_orders as orders
from loadtest import conformance_stack_stream as stream
from loadtest.conformance_report import run_checks
from loadtest.conformance_stack import StackSide


async def test_this_stack_passes() -> None:
    """All checks, on real workers, none of them not applicable."""
    async with StackSide() as stack:
        outcomes = await run_checks(stream.CHECKS + orders.CHECKS, stack, lambda _: None)
    assert [outcome for outcome in outcomes if outcome.verdict != "passed"] == []
    assert len(outcomes) == len(stream.CHECKS) + len(orders.CHECKS)


async def test_wrong_settings_are_found_out() -> None:
    """Another token, a token too many, a limit too high: each fails its check, with what came."""
    wrong = {"TWILIO_AUTH_TOKEN": "another", "STREAM_MAX_MESSAGE_BYTES": str(8 << 20)}
    async with StackSide(wrong) as stack:
        gate = stream.opens_a_stream
        checks = (
            gate,
            stream.signs_the_handshake,
            stream.shows_no_token_without_one,
            orders.refuses_a_giant_message,
        )
        outcomes = await run_checks(checks, stack, lambda _: None)
    assert [outcome.verdict for outcome in outcomes] == ["passed", "failed", "failed", "failed"]
    details = [outcome.detail for outcome in outcomes]
    assert details[1].startswith("expected a valid signature of ws://127.0.0.1:")
    assert details[2].startswith("expected X-Twilio-Signature None; came '")
    assert details[3] == "expected the WebSocket closed; came still open after 5 s"
