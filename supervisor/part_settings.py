"""What the settings mean for the parts that the supervisor consists of."""

import resource
from collections.abc import Mapping

from supervisor.calls.state import OnEnd
from supervisor.calls.table import Rules
from supervisor.config import SupervisorConfig
from supervisor.workers.admission import Limits
from supervisor.workers.stream_control import StreamSettings


def rules(config: SupervisorConfig) -> Rules:
    """Of the call table."""
    return Rules(
        on_stream_end=OnEnd(config.on_stream_end),
        on_stream_failed=OnEnd(config.on_stream_failed),
        setup_timeout_ns=int(config.setup_timeout * 1e9),
    )


def worker_environment(config: SupervisorConfig, environment: Mapping[str, str]) -> dict[str, str]:
    """Of the workers: the supervisor's, and where it is to be found."""
    return {**environment, "RUN_DIR": str(config.run_path())}


def stream_settings(config: SupervisorConfig) -> StreamSettings:
    """Of new streams, and how many calls there may be."""
    fds, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    asterisk_ports = config.asterisk_rtp_end - config.asterisk_rtp_start + 1
    return StreamSettings(
        url=config.ecs_media_wss_url,
        fallback_url=config.ecs_media_wss_fallback_url,
        account_sid=config.twilio_account_sid,
        custom_parameters=config.custom_parameters(),
        share_numbers=config.share_numbers,
        limits=Limits(config.max_calls, asterisk_ports, fds),
        record=config.record_calls,
    )
