"""The Calls resource by HTTP, as Twilio has it, and our own operations beside it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import msgspec
import structlog
from aiohttp import web
from msgspec import Struct

from supervisor.api.access import Actor, Role
from supervisor.phone.phone_call import CallRejected, CallStatus, Hangup, PhoneCall, PhoneCalls
from supervisor.rest import errors as rest_errors
from supervisor.rest import orders as rest_orders
from supervisor.rest import parameters as rest_parameters
from supervisor.rest import resource as rest_resource
from supervisor.rest.errors import Code
from supervisor.rest.form import Form

log = structlog.get_logger()

BODY_S: Final = 10.0
"""A request's body has so long to come."""
FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
CALLS: Final = "/2010-04-01/Accounts/{account}/Calls.json"
CALL: Final = "/2010-04-01/Accounts/{account}/Calls/{call:CA[0-9a-f]{32}}.json"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Duty(Struct, frozen=True):
    """What a route does, by the audit log's word for it, and who may have it done."""

    action: str
    role: Role


class Visit(Struct):
    """A request as the audit log will tell it: what it turned out to be about; `told`: it has."""

    action: str
    call: str = ""
    actor: Actor | None = None
    told: bool = False


VISIT: Final = web.RequestKey("visit", Visit)


class CallRoutes:
    """Answers requests about calls; `must_record` raises CallRejected when changes can't be."""

    def __init__(
        self, calls: PhoneCalls | None, account_sid: str, must_record: Callable[[], None]
    ) -> None:
        self._present = calls
        self.account_sid = account_sid
        self._must_record = must_record

    def routes(self) -> list[tuple[str, str, Handler, Duty]]:
        """Method, path, handler and duty of each."""
        read, operate = Role.READ, Role.OPERATE
        return [
            ("GET", CALLS, self._list, Duty("call.list", read)),
            ("POST", CALLS, self._create, Duty("call.create", operate)),
            ("GET", CALL, self._fetch, Duty("call.fetch", read)),
            ("POST", CALL, self._update, Duty("call.update", operate)),
            ("DELETE", CALL, self._delete, Duty("call.delete", operate)),
            *(
                (
                    "POST",
                    f"/calls/{{call:CA[0-9a-f]{{32}}}}/{{operation:{operation}}}",
                    self._direct,
                    Duty("call.direct", operate),
                )
                for operation in rest_orders.OPERATIONS
            ),
        ]

    @property
    def _calls(self) -> PhoneCalls:
        if self._present is None:
            what = "calls can't be controlled by HTTP here: this supervisor serves streams only"
            raise CallRejected(Code.UNAVAILABLE, 503, what)
        return self._present

    async def _list(self, request: web.Request) -> web.Response:
        self._check_account(request)
        query = Form(request.rel_url.raw_query_string.encode())
        wanted, page = rest_parameters.call_query(query), rest_parameters.page(query)
        filters = {name: query.text(name) for name in rest_parameters.FILTERS if query.text(name)}
        _warn(query, request)
        found = self._calls.find(wanted)
        return json_answer(rest_resource.call_page(found, page, self.account_sid, filters))

    async def _create(self, request: web.Request) -> web.Response:
        self._check_account(request)
        form = await _form(request)
        order = rest_parameters.call_order(form)
        _warn(form, request)
        self._must_record()
        call = await self._calls.create(order)
        request[VISIT].call = call.sid
        return json_answer(rest_resource.call_resource(call), 201)

    async def _fetch(self, request: web.Request) -> web.Response:
        self._check_account(request)
        return json_answer(rest_resource.call_resource(self._call(request)))

    async def _update(self, request: web.Request) -> web.Response:
        """End a call, or give it another script.

        A call that has ended already can be ended again, as bots do that race with the caller.
        `canceled` leaves a call alone that was answered. A script needs a call that was answered.
        """
        self._check_account(request)
        form = await _form(request)
        order = rest_parameters.call_update(form)
        cancel = form.text("Status") == "canceled"
        _warn(form, request)
        call = self._call(request)
        if isinstance(order, Hangup):
            request[VISIT].action = "call.hangup"
            if not call.status.is_final and not (cancel and call.status is CallStatus.IN_PROGRESS):
                call = await self._calls.direct(call.sid, order)
        else:
            request[VISIT].action = "call.new-script"
            if call.status is not CallStatus.IN_PROGRESS:
                what = f"Call is not in-progress. Cannot redirect. It is {call.status}"
                raise CallRejected(Code.INVALID_STATE, 400, what)
            self._must_record()
            call = await self._calls.direct(call.sid, order)
        return json_answer(rest_resource.call_resource(call))

    async def _delete(self, request: web.Request) -> web.Response:
        self._check_account(request)
        call = self._call(request)
        if not call.status.is_final:
            what = f"the call is {call.status}; only one that has ended can be deleted"
            raise CallRejected(Code.NOT_COMPLETE, 409, what)
        self._must_record()
        self._calls.delete(call.sid)
        return web.Response(status=204)

    async def _direct(self, request: web.Request) -> web.Response:
        operation = request.match_info["operation"]
        request[VISIT].action = f"call.{operation}"
        order = rest_orders.order(operation, await _body(request, JSON))
        call = self._call(request)
        if call.status.is_final:
            what = f"the call is {call.status}; {operation} needs one that goes on"
            raise CallRejected(Code.INVALID_STATE, 400, what)
        self._must_record()
        call = await self._calls.direct(call.sid, order)
        return json_answer(rest_resource.call_resource(call))

    def _call(self, request: web.Request) -> PhoneCall:
        call = self._calls.fetch(request.match_info["call"])
        if call is None:
            raise rest_errors.not_found(request.path)
        return call

    def _check_account(self, request: web.Request) -> None:
        """Whose calls they are: of another account there are none here."""
        if request.match_info["account"] != self.account_sid:
            raise rest_errors.not_found(request.path)


def json_answer(content: dict[str, Any], status: int = 200) -> web.Response:
    """A JSON answer, for people to read as well."""
    body = msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"
    return web.Response(body=body, status=status, content_type=JSON)


async def _form(request: web.Request) -> Form:
    return Form(await _body(request, FORM))


async def _body(request: web.Request, content_type: str) -> bytes:
    """A request's whole body; raises CallRejected if it is of another type, or doesn't come."""
    given = request.headers.get("Content-Type", content_type).partition(";")[0].strip().lower()
    encoding = request.headers.get("Content-Encoding", "identity")
    if given != content_type or encoding != "identity":
        what = f"Content-Type is {rest_errors.shown(given)}; allowed is {content_type}, plain"
        raise CallRejected(Code.WRONG_TYPE, 415, what)
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError as error:
        what = f"the body did not come within {BODY_S:g} s"
        raise CallRejected(Code.TIMED_OUT, 408, what) from error
    except (aiohttp.ClientPayloadError, aiohttp.http.HttpProcessingError) as error:
        raise CallRejected(Code.BAD_REQUEST, 400, "the body is not what its head says") from error


def _warn(form: Form, request: web.Request) -> None:
    """Fields that we don't know are ignored, as Twilio does; the log has their names."""
    if ignored := form.ignored():
        action = request[VISIT].action
        log.warning("rest_parameters_ignored", action=action, names=ignored[:10])
