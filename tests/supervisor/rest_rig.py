"""The HTTP interface on a real port, in front of calls that only exist in memory."""

import base64
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
from msgspec import Struct
from msgspec.structs import replace
from prometheus_client import CollectorRegistry
from yarl import URL

from supervisor.api.access import Credentials, DoorSettings
from supervisor.api.audit_chain import verify
from supervisor.api.audit_log import AuditLog
from supervisor.api.doorkeeper import Doorkeeper
from supervisor.api.rate_limit import Rate
from supervisor.api.server import Answers, HttpApi
from supervisor.calls.names import new_sid
from supervisor.console.routes import ConsoleRoutes
from supervisor.phone.phone_call import (
    CallOrder,
    CallQuery,
    CallRejected,
    CallStatus,
    Direction,
    Hangup,
    Order,
    PhoneCall,
)
from supervisor.workers.pool import PoolError

ACCOUNT = "AC" + "ab" * 16
AUTH_TOKEN = "an-auth-token-of-tests"
API_TOKEN = "an-api-token-of-tests"
CREDENTIALS = Credentials(API_TOKEN, ACCOUNT, AUTH_TOKEN)
CALLS = f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json"
PLENTY = Rate(per_second=1e5, burst=1e5)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def basic(user: str = ACCOUNT, secret: str = AUTH_TOKEN) -> str:
    """An Authorization header."""
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


class CallsInMemory:
    """Does what orders say to calls that nobody hears; `orders` are those that came."""

    def __init__(self) -> None:
        self.calls: dict[str, PhoneCall] = {}
        self.orders: list[CallOrder | tuple[str, Order]] = []

    def add(self, status: CallStatus, **fields: Any) -> PhoneCall:
        """A call in this state."""
        call = PhoneCall(
            sid=new_sid("CA"),
            account_sid=ACCOUNT,
            direction=fields.pop("direction", Direction.OUTBOUND_API),
            caller=fields.pop("caller", "+14155550100"),
            called=fields.pop("called", "+14155550123"),
            created_at=fields.pop("created_at", time.time()),
            status=status,
            **fields,
        )
        self.calls[call.sid] = call
        return call

    async def create(self, order: CallOrder) -> PhoneCall:
        """Queue it; numbers that begin with +1900 are refused."""
        self.orders.append(order)
        if order.to.startswith("+1900"):
            raise CallRejected(21215, 400, "calls to +1900 are not allowed here")
        return self.add(CallStatus.QUEUED, caller=order.caller, called=order.to)

    def fetch(self, sid: str) -> PhoneCall | None:
        """By its sid."""
        return self.calls.get(sid)

    def find(self, query: CallQuery) -> list[PhoneCall]:
        """Newest first."""
        newest = sorted(self.calls.values(), key=lambda call: -call.created_at)
        return [call for call in newest if _fits(call, query)]

    async def direct(self, sid: str, order: Order) -> PhoneCall:
        """Only an end changes anything."""
        self.orders.append((sid, order))
        call = self.calls[sid]
        if isinstance(order, Hangup):
            answered = call.status is CallStatus.IN_PROGRESS
            status = CallStatus.COMPLETED if answered else CallStatus.CANCELED
            call = self.calls[sid] = replace(call, status=status, ended_at=time.time())
        return call

    def delete(self, sid: str) -> None:
        """Forget it."""
        del self.calls[sid]


def _fits(call: PhoneCall, query: CallQuery) -> bool:
    return (
        query.to in ("", call.called)
        and query.caller in ("", call.caller)
        and query.parent_sid in ("", call.parent_sid)
        and query.status in (None, call.status)
        and _within(call.created_at, query.started_from, query.started_until)
        and _within(call.ended_at, query.ended_from, query.ended_until)
    )


def _within(moment: float, start: float | None, end: float | None) -> bool:
    return (start is None or moment >= start) and (end is None or moment < end)


class Answer(Struct, frozen=True):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which has to be JSON."""
        return json.loads(self.body)


class RestRig:
    """Serves on a free port of this machine, from `async with` to its end."""

    def __init__(
        self,
        audit_path: Path | None = None,
        *,
        keys_path: str = "",
        requests: Rate = PLENTY,
        calls: bool = True,
        console: ConsoleRoutes | None = None,
    ) -> None:
        self.calls = CallsInMemory()
        self.restarted: list[int] = []
        self.draining = False
        self.audit = AuditLog(audit_path) if audit_path else None
        self.api = HttpApi(
            Answers(
                health=lambda: {"status": "ok", "workers": []},
                registry=CollectorRegistry(),
                restart_worker=self._restart,
                drain=self._drain,
                calls=self.calls if calls else None,
                console=console,
            ),
            Doorkeeper(DoorSettings(CREDENTIALS, keys_path, requests)),
            self.audit,
            ACCOUNT,
        )
        self.base = ""

    async def __aenter__(self) -> Self:
        self.base = f"http://127.0.0.1:{await self.api.start('127.0.0.1', 0)}"
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self.api.close()

    async def ask(
        self,
        method: str,
        path: str,
        data: Any = None,
        *,
        authorization: str | None = basic(),
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask as a client that doesn't repair paths; a dict is sent as a form."""
        given = {"Authorization": authorization} if authorization is not None else {}
        url = URL(self.base + path, encoded=True)
        all_headers = {**given, **(headers or {})}
        async with self._session.request(method, url, data=data, headers=all_headers) as answer:
            return Answer(answer.status, dict(answer.headers), await answer.read())

    def _drain(self, on: bool) -> None:
        if self.draining == on:
            raise CallRejected(409, 409, "it is so already")
        self.draining = on

    async def _restart(self, worker: int) -> None:
        if worker > 1:
            raise PoolError(f"there is no worker {worker}")
        self.restarted.append(worker)


def entries(path: Path) -> list[dict[str, Any]]:
    """The audit log's lines; it has to be whole."""
    lines = path.read_bytes().splitlines(keepends=True)
    assert verify(lines).broken_line == 0
    return [json.loads(line) for line in lines]
