"""Puts the phone calls together from the settings."""

from pathlib import Path

from supervisor.ari_calls import AriCalls
from supervisor.call_control import CallControl
from supervisor.call_names import CallNames
from supervisor.call_store import CallStore
from supervisor.config import SupervisorConfig
from supervisor.phone_calls import AllPhoneCalls, PhoneSettings
from supervisor.sounds import Sounds
from supervisor.switchboard import Lines, Switchboard
from supervisor.toll_guard import TollGuard
from supervisor.webhooks import Webhooks


def phone_calls(
    config: SupervisorConfig,
    ari: AriCalls,
    names: CallNames,
    store: CallStore,
    control: CallControl,
) -> AllPhoneCalls:
    """The phone calls; have their `resumption` load before Asterisk is listened to."""
    settings = phone_settings(config)
    webhooks = Webhooks(config.hosts(settings.routes), config.twilio_auth_token)
    sounds_dir = Path(config.sounds_dir) if config.sounds_dir else None
    lines = Lines(
        ari=ari,
        names=names,
        store=store,
        webhooks=webhooks,
        sounds=Sounds(webhooks, sounds_dir, config.say_command),
        guard=TollGuard(config.prefixes(), config.outbound_per_second),
        endpoint=config.outbound_endpoint,
        account_sid=config.twilio_account_sid,
        can_record=bool(config.recording_dir),
    )
    return AllPhoneCalls(settings, Switchboard(lines), control)


def phone_settings(config: SupervisorConfig) -> PhoneSettings:
    """What the operator decides, and SIGHUP renews."""
    history_s = config.call_history_hours * 3600
    return PhoneSettings(config.routes(), config.twilio_account_sid, history_s)
