"""A SIP dialog (RFC 3261 section 12): what every request within one call has in common. Pure."""

from __future__ import annotations

from msgspec import Struct

from loadtest.sip_message import Headers, Request, Response, address_uri


class Dialog(Struct, frozen=True):
    """One call seen from one side.

    `local` and `remote` are From and To of the requests this side sends, tags included; `target` is
    the Contact URI of the other side, `route_set` what goes into Route headers, in order.
    """

    call_id: str
    local: str
    remote: str
    target: str
    route_set: tuple[str, ...] = ()

    def request(self, method: str, cseq: int, via: str, *more: tuple[str, str]) -> Request:
        """A request of this side; `more` headers follow (section 12.2.1.1, loose routing)."""
        headers: Headers = (
            ("Via", via),
            ("Max-Forwards", "70"),
            *(("Route", route) for route in self.route_set),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq} {method}"),
            *more,
        )
        return Request(method, self.target, headers=headers)


def dialog_of_caller(response: Response) -> Dialog:
    """The dialog of the side that sent the INVITE, from its 2xx (section 12.1.2)."""
    return Dialog(
        call_id=response.call_id,
        local=response.require("From"),
        remote=response.require("To"),
        target=address_uri(response.require("Contact")),
        route_set=response.values("Record-Route")[::-1],
    )


def dialog_of_callee(invite: Request, response: Response) -> Dialog:
    """The dialog of the side that answered the INVITE with `response` (section 12.1.1)."""
    return Dialog(
        call_id=invite.call_id,
        local=response.require("To"),
        remote=invite.require("From"),
        target=address_uri(invite.require("Contact")),
        route_set=invite.values("Record-Route"),
    )


def cancel_of(invite: Request) -> Request:
    """The CANCEL of an INVITE in progress: same Via, same CSeq number (section 9.1)."""
    return _hop_by_hop(invite, "CANCEL", invite.require("To"))


def ack_of(invite: Request, response: Response) -> Request:
    """The ACK of a response of 300 or more, in the INVITE's transaction (section 17.1.1.3)."""
    return _hop_by_hop(invite, "ACK", response.require("To"))


def _hop_by_hop(invite: Request, method: str, to: str) -> Request:
    headers: Headers = (
        ("Via", invite.require("Via")),
        ("Max-Forwards", "70"),
        *(("Route", route) for route in invite.values("Route")),
        ("From", invite.require("From")),
        ("To", to),
        ("Call-ID", invite.call_id),
        ("CSeq", f"{invite.cseq[0]} {method}"),
    )
    return Request(method, invite.uri, headers=headers)
