"""Asterisk's configuration: templates filled in from the operator's settings.

    python -m deploy.asterisk_config --values /etc/open-telephony-stack/asterisk.env \
        --out /etc/asterisk --owner asterisk

The templates are `deploy/asterisk/*.conf`, and those of one folder in it: `trunk/` when there is a
certificate for SIP over TLS (`outbound/` besides when calls can go out), else `local/`, a phone on
this machine. `@{name}` is a value of ours; `${...}` and `$[...]` are Asterisk's own.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from deploy import hold_music
from deploy.asterisk_version import complaint_about_version
from deploy.conf_files import render_files, run_command
from deploy.settings import (
    PORTS,
    ConfigurationError,
    Environment,
    read_choice,
    read_number,
    read_path,
    read_port,
    read_secret,
    read_word,
)
from deploy.sip_trunk import TrunkValues, trunk_from_environment

__all__ = [
    "AsteriskValues",
    "ConfigurationError",
    "render",
    "values_from_environment",
]

TEMPLATES = Path(__file__).parent / "asterisk"

WAITS = range(301)
"""Seconds that a caller may be kept waiting for an agent."""

PORTS_PER_CALL = 4
"""Two legs, each an even RTP port with the odd one after it (res_rtp_asterisk.c)."""

SPARE_SHARE = 0.1
SPARE_LEAST = 40
"""Of Asterisk's RTP ports so many are left free, and at least `SPARE_LEAST`: each INVITE takes
ports before Asterisk looks at `maxcalls`, and it was seen to crash when a burst found none."""

FEWEST_MEDIA_PORTS = 2 * SPARE_LEAST

HOLD_MUSIC_DIR = "/etc/asterisk/hold-music"
"""Where Asterisk finds the music that `render` writes."""


class AsteriskValues(msgspec.Struct, frozen=True, kw_only=True):
    """What the templates need. The defaults here are the only ones.

    Port ranges include both ends. `worker_rtp_*` is the range of the media workers; Asterisk
    doesn't use it, but must stay out of it. A call that comes while nobody is connected to ARI
    waits for `agent_wait_seconds` before the fallback gets it. `answer_calls` says who answers: the
    dialplan, or the supervisor when the call's script wants it. Without a
    `trunk` the only phone is one on this machine.
    """

    ari_user: str = "voice-agent"
    ari_pass: str
    ari_app: str = "voice-agent"
    http_host: str = "127.0.0.1"
    http_port: int = 8088
    sip_host: str = "127.0.0.1"
    sip_port: int = 5060
    rtp_start: int = 10000
    rtp_end: int = 19999
    agent_wait_seconds: int = 5
    answer_calls: str = "dialplan"
    hold_music_dir: str = HOLD_MUSIC_DIR
    worker_rtp_start: int = 20000
    worker_rtp_end: int = 29999
    trunk: TrunkValues | None = None

    @property
    def max_calls(self) -> int:
        """Calls that Asterisk admits: what its RTP ports suffice for, less a reserve."""
        ports = self.rtp_end - self.rtp_start + 1
        return int((ports - max(SPARE_LEAST, ports * SPARE_SHARE)) // PORTS_PER_CALL)

    @property
    def agent_wait_tries(self) -> int:
        """How often the dialplan looks for the agent again: twice a second."""
        return 2 * self.agent_wait_seconds

    @property
    def answer(self) -> str:
        """What the dialplan does first with a call."""
        return "Answer(,i)" if self.answer_calls == "dialplan" else "NoOp()"

    def substitutions(self) -> dict[str, str | int]:
        """What each `@{name}` in a template becomes."""
        return {
            **msgspec.structs.asdict(self),
            "max_calls": self.max_calls,
            "agent_wait_tries": self.agent_wait_tries,
            "answer": self.answer,
            **(self.trunk.substitutions() if self.trunk else {}),
        }

    def templates(self) -> list[Path]:
        """The templates that these values need, by file name."""
        folders = ["."]
        if self.trunk is None:
            folders.append("local")
        else:
            folders += ["trunk", "outbound"] if self.trunk.outbound else ["trunk"]
        found = [path for folder in folders for path in (TEMPLATES / folder).glob("*.conf")]
        return sorted(found, key=lambda path: path.name)


def values_from_environment(environment: Environment) -> AsteriskValues:
    """Read the settings. Unset or empty variables take the default; ARI_PASS has none.

    Raises ConfigurationError for a bad value, and for port ranges that overlap.
    """
    defaults = AsteriskValues(ari_pass="")  # nothing is read from it but the other fields
    http_host, http_port = _host_and_port(
        environment.get("ARI_BASE") or f"http://{defaults.http_host}:{defaults.http_port}"
    )
    values = AsteriskValues(
        ari_user=read_word(environment, "ARI_USER", defaults.ari_user),
        ari_pass=read_secret(environment, "ARI_PASS", "a password for ARI"),
        ari_app=read_word(environment, "ARI_APP", defaults.ari_app),
        http_host=http_host,
        http_port=http_port,
        sip_port=read_port(environment, "SIP_PORT", defaults.sip_port),
        rtp_start=read_port(environment, "ASTERISK_RTP_START", defaults.rtp_start),
        rtp_end=read_port(environment, "ASTERISK_RTP_END", defaults.rtp_end),
        agent_wait_seconds=read_number(
            environment, "AGENT_WAIT_SECONDS", defaults.agent_wait_seconds, WAITS
        ),
        answer_calls=read_choice(environment, "ANSWER_CALLS", ("dialplan", "script")),
        hold_music_dir=read_path(environment, "HOLD_MUSIC_DIR", defaults.hold_music_dir),
        worker_rtp_start=read_port(environment, "RTP_PORT_START", defaults.worker_rtp_start),
        worker_rtp_end=read_port(environment, "RTP_PORT_END", defaults.worker_rtp_end),
        trunk=trunk_from_environment(environment),
    )
    _check_ranges(values)
    return values


def render(values: AsteriskValues, target_dir: Path) -> None:
    """Write the configuration into `target_dir`, which then holds no other `.conf` file.

    What is the operator's own is in `target_dir/custom`, which is left alone. The directory and the
    files are readable for their owner only: they contain passwords.
    """
    render_files(values.templates(), values.substitutions(), target_dir)
    music_dir = target_dir / Path(HOLD_MUSIC_DIR).name
    music_dir.mkdir(mode=0o700, exist_ok=True)
    hold_music.write(music_dir / "chord.wav")


def _check_ranges(values: AsteriskValues) -> None:
    """Raise ConfigurationError if a range is too small or the two overlap."""
    asterisk = (values.rtp_start, values.rtp_end)
    workers = (values.worker_rtp_start, values.worker_rtp_end)
    if values.rtp_end - values.rtp_start + 1 < FEWEST_MEDIA_PORTS:
        raise ConfigurationError(
            f"ASTERISK_RTP_START..ASTERISK_RTP_END is {_text(asterisk)}:"
            f" at least {FEWEST_MEDIA_PORTS} ports are needed"
        )
    if workers[1] < workers[0]:
        raise ConfigurationError(
            f"RTP_PORT_START..RTP_PORT_END is {_text(workers)}: the end must not be below the start"
        )
    # When the end is even, Asterisk's last RTP port has its RTCP port just outside of the range.
    if asterisk[0] <= workers[1] and workers[0] <= asterisk[1] | 1:
        raise ConfigurationError(
            f"Asterisk's RTP ports (ASTERISK_RTP_START..ASTERISK_RTP_END, {_text(asterisk)})"
            f" and the workers' (RTP_PORT_START..RTP_PORT_END, {_text(workers)}) overlap:"
            " they must have no port in common"
        )


def _text(ports: tuple[int, int]) -> str:
    return f"{ports[0]}..{ports[1]}"


def _host_and_port(ari_base: str) -> tuple[str, int]:
    """The address that Asterisk's HTTP server binds, from ARI's URL."""
    allowed = "it must be http://HOST:PORT with a loopback address, e.g. http://127.0.0.1:8088"
    problem = ConfigurationError(f"ARI_BASE is {ari_base!r}: {allowed}")
    try:
        url = urlsplit(ari_base)
        host = "127.0.0.1" if url.hostname == "localhost" else url.hostname or ""
        port = url.port or 0
        loopback = ip_address(host).is_loopback
    except ValueError as error:
        raise problem from error
    if url.scheme != "http" or not loopback or port not in PORTS:
        raise problem
    return host, port


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""

    def write(environment: Environment, target_dir: Path) -> None:
        render(values_from_environment(environment), target_dir)

    code = run_command("deploy.asterisk_config", __doc__, write, arguments)
    if code == 0 and (warning := complaint_about_version(_installed_version())):
        sys.stderr.write(f"{warning}\n")
    return code


def _installed_version() -> str:
    """What `asterisk -V` prints on this machine; empty where there is no Asterisk."""
    if (program := shutil.which("asterisk")) is None:
        return ""
    return subprocess.run([program, "-V"], capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
