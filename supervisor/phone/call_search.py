"""Finds phone calls. Pure."""

from supervisor.phone.phone_call import CallQuery, PhoneCall


def fits(call: PhoneCall, query: CallQuery) -> bool:
    """Whether a call is one that the query wants."""
    wanted = (
        (query.to, call.called),
        (query.caller, call.caller),
        (query.parent_sid, call.parent_sid),
        (query.status, call.status),
    )
    if any(want and want != has for want, has in wanted):
        return False
    return _within(
        call.answered_at or call.created_at, query.started_from, query.started_until
    ) and _within(call.ended_at, query.ended_from, query.ended_until)


def _within(at: float, from_: float | None, until: float | None) -> bool:
    if from_ is None and until is None:
        return True
    return bool(at) and (from_ is None or at >= from_) and (until is None or at < until)
