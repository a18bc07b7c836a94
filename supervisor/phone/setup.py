"""Puts the phone calls together from the settings."""

from pathlib import Path

from supervisor.ari.calls import AriCalls
from supervisor.calls.control import CallControl
from supervisor.calls.names import CallNames
from supervisor.config import SupervisorConfig
from supervisor.phone.call_store import CallStore
from supervisor.phone.phone_calls import AllPhoneCalls
from supervisor.phone.sounds import Sounds
from supervisor.phone.switchboard import Lines, PhoneSettings, Switchboard
from supervisor.phone.toll_guard import TollGuard
from supervisor.phone.webhooks import Webhooks, untraced


def phone_calls(
    config: SupervisorConfig,
    ari: AriCalls,
    names: CallNames,
    store: CallStore,
    control: CallControl,
) -> AllPhoneCalls:
    """The phone calls; have their `resumption` load before Asterisk is listened to."""
    settings = phone_settings(config)
    trace = control.tracing.request if control.tracing else untraced
    webhooks = Webhooks(settings.hosts, settings.auth_token, trace)
    sounds_dir = Path(config.sounds_dir) if config.sounds_dir else None
    lines = Lines(
        ari=ari,
        names=names,
        store=store,
        webhooks=webhooks,
        sounds=Sounds(webhooks, sounds_dir, config.say_command),
        guard=TollGuard(config.prefixes(), config.outbound_per_second),
        endpoint=config.outbound_endpoint,
        can_record=bool(config.recording_dir),
    )
    return AllPhoneCalls(Switchboard(settings, lines), control)


def phone_settings(config: SupervisorConfig) -> PhoneSettings:
    """What the operator decides, and SIGHUP renews."""
    routes = config.routes()
    return PhoneSettings(
        routes,
        config.hosts(routes),
        config.twilio_account_sid,
        config.twilio_auth_token,
        config.call_history_hours * 3600,
    )
