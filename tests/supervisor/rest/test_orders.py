"""Our own operations: which JSON bodies are which orders."""

import pytest

from supervisor.phone.phone_call import (
    AddParty,
    CallRejected,
    CancelTransfer,
    CompleteTransfer,
    Hold,
    Mute,
    Order,
    PlayDigits,
    Record,
    Transfer,
)
from supervisor.rest import orders as rest_orders


@pytest.mark.parametrize(
    ("operation", "body", "order"),
    [
        ("transfer", b'{"target": "+14155550123"}', Transfer("+14155550123")),
        ("transfer", b'{"target": "sip:a@b", "attended": true}', Transfer("sip:a@b", True)),
        ("transfer", b'{"target": "default,100,1"}', Transfer("default,100,1")),
        ("complete-transfer", b"", CompleteTransfer()),
        ("cancel-transfer", b"{}", CancelTransfer()),
        ("hold", b'{"on": true}', Hold(True)),
        ("mute", b'{"on": false}', Mute(False)),
        ("digits", b'{"digits": "1wW#"}', PlayDigits("1www#")),
        (
            "parties",
            b'{"target": "sip:[::1]:5060", "instead": true}',
            AddParty("sip:[::1]:5060", True),
        ),
        ("recording", b'{"on": true}', Record(True)),
    ],
)
def test_orders(operation: str, body: bytes, order: Order) -> None:
    """The body has the order's fields."""
    assert rest_orders.order(operation, body) == order


@pytest.mark.parametrize(
    ("operation", "body", "code"),
    [
        ("hold", b"", 400),
        ("hold", b"[]", 400),
        ("hold", b'{"on": 1}', 400),
        ("hold", b'{"on": true', 400),
        ("hold", b"\xff", 400),
        ("hold", b"[" * 100_000, 400),
        ("hold", b'{"on": true, "music": "a"}', 20001),
        ("complete-transfer", b'{"on": true}', 20001),
        ("transfer", b'{"target": "100"}', 21211),
        ("parties", b'{"target": "default,100,1"}', 21211),
        ("digits", b'{"digits": ""}', 21206),
        ("digits", b'{"digits": "1,2"}', 21206),
    ],
)
def test_what_is_refused(operation: str, body: bytes, code: int) -> None:
    """The error says which operation, or which field, and what is allowed."""
    with pytest.raises(CallRejected) as refused:
        rest_orders.order(operation, body)
    assert (refused.value.code, refused.value.status) == (code, 400)
    assert "allowed" in str(refused.value)
