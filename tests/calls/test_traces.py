"""A placed call as a trace: its webhooks, and the set-up of its stream, on the real Asterisk."""

import pytest

from supervisor.phone.phone_call import CallOrder, Script
from tests.calls.rig import NUMBER, phone_rig
from tests.system.collector import collector

pytestmark = [pytest.mark.asterisk, pytest.mark.usefixtures("asterisk_rootfs")]


async def test_a_placed_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """One trace has both, and the web server is told its request's span."""
    async with collector() as heard:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", heard.base)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        async with phone_rig() as rig:
            stream = f"<Connect><Stream url='{rig.stream_url}'/></Connect>"
            rig.site.pages["/script"] = f"<Response>{stream}</Response>".encode()
            script = Script(url=f"{rig.site.base}/script")
            call = await rig.calls.create(CallOrder(NUMBER, "+15550001111", script))
            await rig.taken()
            await rig.until(lambda: heard.named("call set-up"), "the set-up's span")
            await rig.until(lambda: heard.named("POST"), "the webhook's span")
        assert {span.trace_id.hex() for span in heard.spans} == {call.sid.removeprefix("CA")}
        [webhook] = heard.named("POST")
        [asked] = rig.site.asked
        assert asked.traceparent == f"00-{call.sid[2:]}-{webhook.span_id.hex()}-01"
        [root] = heard.named("call set-up")
        about = {each.key: each.value.string_value for each in root.attributes}
        assert about["ots.direction"] == "outbound-api"
        assert about["ots.outcome"] == "up"
