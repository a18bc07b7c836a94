"""ARI's JSON as Asterisk 22.10.1 sent it (recorded; names, numbers and ids are invented)."""

import msgspec
import pytest

from supervisor.ari.events import (
    AriAbsent,
    AriDecodeError,
    AriEvent,
    AriRefused,
    AsteriskInfo,
    Bridge,
    CallerId,
    Channel,
    ChannelNotInStasis,
    Dialplan,
    Variable,
    decode_answer,
    decode_event,
    media_address,
    refusal,
)

CALLER_JSON = (
    '{"id":"1795508953.0","name":"PJSIP/local-phone-00000000","state":"Up",'
    '"protocol_id":"1-1@127.0.0.1","caller":{"name":"Test Caller","number":"+15550001000"},'
    '"connected":{"name":"","number":""},"accountcode":"","dialplan":{"context":"inbound",'
    '"exten":"15550002000","priority":2,"app_name":"Stasis","app_data":"try-app,one,two"},'
    '"creationtime":"2026-11-24T08:29:13.047+0000","language":"en"}'
)
MEDIA_LEG_JSON = (
    '{"id":"ext-1","name":"UnicastRTP/127.0.0.1:34000-0x7fc3f4004ac0","state":"Up",'
    '"protocol_id":"","caller":{"name":"","number":""},"connected":{"name":"","number":""},'
    '"accountcode":"","dialplan":{"context":"default","exten":"s","priority":1,'
    '"app_name":"Stasis","app_data":"try-app,a b,c"},'
    '"creationtime":"2026-11-24T08:29:14.128+0000","language":"en"}'
)
BRIDGE_JSON = (
    '{"id":"br-1","technology":"simple_bridge","bridge_type":"mixing","bridge_class":"stasis",'
    '"creator":"Stasis","name":"n","channels":["1795508953.0","ext-1"],'
    '"creationtime":"2026-11-24T08:29:14.126+0000","video_mode":"talker"}'
)
TAIL_JSON = '"asterisk_id":"02:00:00:00:00:01","application":"try-app"}'
CREATED_MEDIA_LEG_JSON = (
    b'{"id":"ext-1","name":"UnicastRTP/127.0.0.1:34000-0x7fc3f4004ac0","state":"Down",'
    b'"protocol_id":"","caller":{"name":"","number":""},"connected":{"name":"","number":""},'
    b'"accountcode":"","dialplan":{"context":"default","exten":"s","priority":1,'
    b'"app_name":"AppDial2","app_data":"(Outgoing Line)"},'
    b'"creationtime":"2026-11-24T08:29:14.128+0000","language":"en",'
    b'"channelvars":{"UNICASTRTP_LOCAL_PORT":"31218","UNICASTRTP_LOCAL_ADDRESS":"127.0.0.1"}}'
)
INFO_JSON = (
    b'{"build":{"os":"Linux","kernel":"unknown","machine":"unknown","options":"OPTIONAL_API",'
    b'"date":"2026-07-20 21:35:32 UTC","user":"nobody"},"system":{"version":"22.10.1+dfsg",'
    b'"entity_id":"02:00:00:00:00:01"},"config":{"name":"","default_language":"en",'
    b'"setid":{"user":"","group":""}},"status":{"startup_time":"2026-11-24T08:28:15.579+0000",'
    b'"last_reload_time":"2026-11-24T08:28:15.579+0000"}}'
)

CALLER = Channel(
    id="1795508953.0",
    name="PJSIP/local-phone-00000000",
    state="Up",
    caller=CallerId("Test Caller", "+15550001000"),
    dialplan=Dialplan("inbound", "15550002000", 2, "Stasis", "try-app,one,two"),
    creationtime="2026-11-24T08:29:13.047+0000",
)
MEDIA_LEG = Channel(
    id="ext-1",
    name="UnicastRTP/127.0.0.1:34000-0x7fc3f4004ac0",
    state="Up",
    dialplan=Dialplan("default", "s", 1, "Stasis", "try-app,a b,c"),
    creationtime="2026-11-24T08:29:14.128+0000",
)
BRIDGE = Bridge(
    id="br-1",
    technology="simple_bridge",
    bridge_type="mixing",
    name="n",
    creationtime="2026-11-24T08:29:14.126+0000",
    channels=("1795508953.0", "ext-1"),
)


def recorded(head: str) -> AriEvent:
    """The event that begins with `head`, without what all recorded events have in common."""
    event = decode_event(head + TAIL_JSON)
    assert event.application == "try-app"
    assert event.timestamp == "2026-11-24T08:29:14.128+0000"
    return msgspec.structs.replace(event, application="", timestamp="")


STAMP = '"timestamp":"2026-11-24T08:29:14.128+0000",'


def test_a_caller_enters_the_app() -> None:
    """StasisStart carries the app's arguments, the caller, and the number that was called."""
    event = recorded(
        '{"type":"StasisStart",' + STAMP + f'"args":["one","two"],"channel":{CALLER_JSON},'
    )
    assert event == AriEvent("StasisStart", args=("one", "two"), channel=CALLER)


def test_our_own_media_leg_enters_the_app() -> None:
    """An ExternalMedia channel's StasisStart has our id, and nobody as the caller."""
    event = recorded(
        '{"type":"StasisStart",' + STAMP + f'"args":["a b","c"],"channel":{MEDIA_LEG_JSON},'
    )
    assert event == AriEvent("StasisStart", args=("a b", "c"), channel=MEDIA_LEG)


def test_a_digit() -> None:
    """ChannelDtmfReceived carries the digit and how long it was pressed."""
    event = recorded(
        '{"type":"ChannelDtmfReceived",'
        + STAMP
        + f'"digit":"5","duration_ms":160,"channel":{CALLER_JSON},'
    )
    assert event == AriEvent("ChannelDtmfReceived", channel=CALLER, digit="5", duration_ms=160)


def test_the_caller_hangs_up() -> None:
    """After a BYE the ChannelHangupRequest has no cause."""
    event = recorded('{"type":"ChannelHangupRequest",' + STAMP + f'"channel":{CALLER_JSON},')
    assert event == AriEvent("ChannelHangupRequest", channel=CALLER)
    assert event.cause is None


def test_we_hang_up() -> None:
    """After a DELETE it has one, and its keys come before the type."""
    event = recorded(
        '{"cause":32,"soft":true,"type":"ChannelHangupRequest",'
        + STAMP
        + f'"channel":{MEDIA_LEG_JSON},'
    )
    assert event == AriEvent("ChannelHangupRequest", channel=MEDIA_LEG, cause=32)


def test_a_channel_is_gone() -> None:
    """ChannelDestroyed has the Q.850 cause and its text."""
    event = recorded(
        '{"type":"ChannelDestroyed",'
        + STAMP
        + f'"cause":16,"cause_txt":"Normal Clearing","channel":{MEDIA_LEG_JSON},'
    )
    assert event == AriEvent(
        "ChannelDestroyed", channel=MEDIA_LEG, cause=16, cause_txt="Normal Clearing"
    )


def test_a_channel_is_joined() -> None:
    """ChannelEnteredBridge has the bridge, with the channels that are in it, and the channel."""
    event = recorded(
        '{"type":"ChannelEnteredBridge",'
        + STAMP
        + f'"bridge":{BRIDGE_JSON},"channel":{MEDIA_LEG_JSON},'
    )
    assert event == AriEvent("ChannelEnteredBridge", channel=MEDIA_LEG, bridge=BRIDGE)


def test_another_listener_has_the_app() -> None:
    """ApplicationReplaced has nothing but its type."""
    assert recorded('{"type":"ApplicationReplaced",' + STAMP) == AriEvent("ApplicationReplaced")


def test_fields_that_we_do_not_read() -> None:
    """An event about other things is let through, whatever else it carries."""
    event = recorded(
        '{"type":"Dial",' + STAMP + '"dialstatus":"","forward":"",'
        f'"dialstring":"127.0.0.1:34000/c(ulaw)","peer":{MEDIA_LEG_JSON},'
    )
    assert event == AriEvent("Dial")


def test_an_event_type_of_a_later_asterisk() -> None:
    """Unknown types are let through, and unknown fields inside known objects too."""
    event = decode_event(
        b'{"type":"ChannelBeamedUp","channel":{"id":"7","mood":["calm"]},"planet":{"name":"x"}}'
    )
    assert event == AriEvent("ChannelBeamedUp", channel=Channel("7"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "truncated"),
        ("hello", "malformed"),
        ('{"type":"StasisStart"', "truncated"),
        ('["StasisStart"]', "Expected `object`, got `array`"),
        ('{"channel":{"id":"+15550001000"}}', "missing required field `type`"),
        ('{"type":7}', "Expected `str`, got `int` - at `$.type`"),
        (
            '{"type":"StasisStart","channel":{"id":"1","caller":{"number":15550001000}}}',
            "Expected `str`, got `int` - at `$.channel.caller.number`",
        ),
        ('{"type":"StasisStart","channel":{"name":"x"}}', "missing required field `id`"),
        ('{"type":"ChannelDtmfReceived","duration_ms":"long"}', "at `$.duration_ms`"),
        (b'{"type":"\xff+15550001000"}', "decode byte 0xff"),
        ("\ud800+15550001000", "surrogates"),
    ],
)
def test_an_unreadable_event(text: str | bytes, problem: str) -> None:
    """The error says what is wrong and where, and never repeats the content."""
    with pytest.raises(AriDecodeError) as caught:
        decode_event(text)
    assert problem in str(caught.value)
    assert f"length {len(text)}:" in str(caught.value)
    assert "15550001000" not in str(caught.value)


def test_the_answer_to_a_new_media_leg() -> None:
    """It names Asterisk's own RTP address, to which our socket will be connected."""
    channel = decode_answer(Channel, CREATED_MEDIA_LEG_JSON)
    assert (channel.id, channel.state) == ("ext-1", "Down")
    assert media_address(channel) == ("127.0.0.1", 31218)


@pytest.mark.parametrize(
    ("channelvars", "named"),
    [
        ({}, "UNICASTRTP_LOCAL_ADDRESS=''"),
        ({"UNICASTRTP_LOCAL_ADDRESS": "127.0.0.1"}, "UNICASTRTP_LOCAL_PORT=''"),
        ({"UNICASTRTP_LOCAL_PORT": "31218"}, "UNICASTRTP_LOCAL_ADDRESS=''"),
        ({"UNICASTRTP_LOCAL_ADDRESS": "::1", "UNICASTRTP_LOCAL_PORT": "0"}, "PORT='0'"),
        ({"UNICASTRTP_LOCAL_ADDRESS": "::1", "UNICASTRTP_LOCAL_PORT": "65536"}, "PORT='65536'"),
        ({"UNICASTRTP_LOCAL_ADDRESS": "::1", "UNICASTRTP_LOCAL_PORT": "٣"}, "PORT='٣'"),
    ],
)
def test_a_channel_without_media_address(channelvars: dict[str, str], named: str) -> None:
    """A channel that is no ExternalMedia channel, or a port that is none, is a clear error."""
    with pytest.raises(AriDecodeError, match=named) as caught:
        media_address(Channel("x1", channelvars=channelvars))
    assert "channel x1" in str(caught.value)


def test_lists() -> None:
    """The lists of channels and bridges decode to the same values as the events."""
    both = f"[{CALLER_JSON},{MEDIA_LEG_JSON}]".encode()
    assert decode_answer(list[Channel], both) == [CALLER, MEDIA_LEG]
    assert decode_answer(list[Bridge], f"[{BRIDGE_JSON}]".encode()) == [BRIDGE]
    assert decode_answer(list[Bridge], b"[]") == []


def test_info() -> None:
    """Version and start time are read; limits that Asterisk does not have are None."""
    info = decode_answer(AsteriskInfo, INFO_JSON)
    assert info.system.version == "22.10.1+dfsg"
    assert info.status.startup_time == "2026-11-24T08:28:15.579+0000"
    assert info.config.max_channels is None


def test_an_unreadable_answer() -> None:
    """An answer of another kind is an error that says where."""
    with pytest.raises(AriDecodeError, match=r"answer of length 2.*missing required field `value`"):
        decode_answer(Variable, b"{}")
    with pytest.raises(AriDecodeError, match=r"at `\$\[0\]`"):
        decode_answer(list[Channel], b"[7]")


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (404, b'{"message":"Channel not found"}', AriAbsent, "Channel not found"),
        (
            422,
            b'{"message":"Channel not in Stasis application"}',
            ChannelNotInStasis,
            "Channel not in Stasis application",
        ),
        (
            409,
            b'{"message":"Channel not in Stasis application"}',
            ChannelNotInStasis,
            "Channel not in Stasis application",
        ),
        (
            422,
            b'{"message":"Channel not in this bridge"}',
            AriRefused,
            "Channel not in this bridge",
        ),
        (
            409,
            b'{"message":"Bridge not in Stasis application"}',
            AriRefused,
            "Bridge not in Stasis application",
        ),
        (500, b"", AriRefused, "no reason given"),
        (503, b"<html>Shutdown\n", AriRefused, "<html>Shutdown"),
        (400, b'{"message":7}', AriRefused, '{"message":7}'),
        (400, b"\xff", AriRefused, "\N{REPLACEMENT CHARACTER}"),
        (500, b"x" * 1000, AriRefused, "x" * 300),
    ],
)
def test_refusals(status: int, body: bytes, kind: type[AriRefused], message: str) -> None:
    """The status and Asterisk's own words make the error; whatever is no JSON is shown as it is."""
    error = refusal("POST /x", status, body)
    assert type(error) is kind
    assert (error.status, error.message) == (status, message)
    assert str(error) == f"POST /x was answered with {status}: {message}"
