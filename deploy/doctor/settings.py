"""The settings as the programs read them, and all that is wrong with them at once."""

import difflib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

import dotenv
import msgspec

from deploy.asterisk_config import AsteriskValues, ConfigurationError, values_from_environment
from deploy.doctor.finding import Finding, error, warning
from shim import environment
from shim.config import ShimConfig, tls_context
from shim.environment import ConfigError
from supervisor.config import SupervisorConfig, check
from supervisor.workers.media_ports import check_host
from voice_agent.config import Config as VoiceAgentConfig
from voice_agent.config import ConfigError as VoiceAgentConfigError
from voice_agent.config import read_config

REFUSALS: Final = (ConfigError, ConfigurationError, VoiceAgentConfigError)
ENV_FILE: Final = ".env"
OTHERS: Final = {
    "AGENT_WAIT_SECONDS",
    "ASTERISK",
    "OPENAI_API_KEY_FILE",
    "SIP_PORT",
}
"""Variables that no program has as a field, and what else .env.example names."""

T = TypeVar("T")


class Settings(msgspec.Struct, frozen=True):
    """What each program would run with, None where it would not start whatever one leaves out."""

    environ: dict[str, str]
    supervisor: SupervisorConfig | None
    worker: ShimConfig | None
    asterisk: AsteriskValues | None
    voice_agent: VoiceAgentConfig | None
    findings: list[Finding]


def read_settings(own: Mapping[str, str], directory: Path) -> Settings:
    """Read everything, as the programs do: from `.env` in the directory, and the environment.

    A value that is refused becomes a finding, and the rest is read as if it were not set.
    """
    path = directory / ENV_FILE
    from_file = {name: value or "" for name, value in dotenv.dotenv_values(path).items()}
    environ = {**from_file, **own}
    findings = _unknown(from_file)
    return Settings(
        environ=environ,
        supervisor=_read(environ, _supervisor, findings),
        worker=_read(environ, _worker, findings),
        asterisk=_read(environ, values_from_environment, findings),
        voice_agent=_read(environ, lambda values: read_config(values, _agents(values)), findings),
        findings=findings,
    )


def _supervisor(environ: Mapping[str, str]) -> SupervisorConfig:
    """As the supervisor's own start does, with what it sees only by comparing and trying out."""
    config = environment.read(SupervisorConfig, environ)
    check(config, config.workers or len(os.sched_getaffinity(0)))
    variable = "RTP_BIND_HOST" if config.rtp_bind_host else "EXTERNAL_MEDIA_HOST"
    check_host(variable, config.rtp_bind_host or config.external_media_host)
    return config


def _worker(environ: Mapping[str, str]) -> ShimConfig:
    config = environment.read(ShimConfig, environ)
    config.stream_settings()
    tls_context(config)
    return config


def _agents(environ: Mapping[str, str]) -> set[str]:
    """An operator's own agents have names that only their own program knows."""
    return {"offline", "openai", environ.get("AGENT") or "offline"}


def _read(
    environ: Mapping[str, str], read: Callable[[Mapping[str, str]], T], findings: list[Finding]
) -> T | None:
    """Read, and read again without the variable that was refused, until nothing is."""
    left = dict(environ)
    while True:
        try:
            return read(left)
        except REFUSALS as refusal:
            _add(str(refusal), findings)
            if not left.pop(_first_word(str(refusal)), ""):
                return None


def _add(refusal: str, findings: list[Finding]) -> None:
    """Add a refusal, unless another program has refused the same variable."""
    variable = _first_word(refusal)
    if any(_first_word(finding.what) == variable for finding in findings):
        return
    findings.append(
        error(
            "configuration.refused",
            refusal,
            "the program that reads it does not start (exit code 78)",
            "correct it in .env or in the unit's environment (.env.example describes all)",
        )
    )


def _first_word(text: str) -> str:
    """Every refusal begins with the variable it is about."""
    return text.partition(" ")[0]


def _unknown(from_file: Mapping[str, str]) -> list[Finding]:
    """Variables in .env that nobody reads, though their name is close to one that is read."""
    structs = (SupervisorConfig, ShimConfig, VoiceAgentConfig)
    known = {field.name.upper() for struct in structs for field in msgspec.structs.fields(struct)}
    findings = []
    for name in sorted(set(from_file) - known - OTHERS):
        for close in difflib.get_close_matches(name, known | OTHERS, n=1, cutoff=0.85):
            findings.append(
                warning(
                    "configuration.unknown",
                    f"{name} in .env is read by no program",
                    f"if {close} was meant, its default is in force",
                    f"write {close}, or remove the line",
                )
            )
    return findings
