"""Asterisk's configuration: templates filled in from the environment.

The templates are `deploy/asterisk/*.conf`. `@{name}` is a value of ours; `${...}` and `$[...]`
are Asterisk's own and stay as they are.
"""

import re
import string
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from deploy import hold_music

TEMPLATES = Path(__file__).parent / "asterisk"

PORTS = range(1024, 65536)
"""Asterisk runs without root's rights, so it cannot bind a port below 1024."""

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


class ConfigurationError(Exception):
    """A setting is missing or bad; the text names it, its value and what is allowed."""


class AsteriskValues(msgspec.Struct, frozen=True, kw_only=True):
    """What the templates need. The defaults here are the only ones.

    Port ranges include both ends. `worker_rtp_*` is the range of the media workers; Asterisk
    doesn't use it, but must stay out of it. A call that comes while nobody is connected to ARI
    waits for `agent_wait_seconds` before the fallback gets it. `answer_calls` says who answers: the
    dialplan, or the supervisor when the call's script wants it.
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
        }


class ConfTemplate(string.Template):
    """A template in which only `@{name}` is replaced; a lone `@` or `$` means itself."""

    delimiter = "@"
    pattern = r"""
        @(?:
            \{(?P<braced>[a-z_]+)\}
          | (?P<invalid>\{)          # `@{` that doesn't go on as above
          | (?P<escaped>(?!))        # the two other groups string.Template asks for: never
          | (?P<named>(?!))
        )
    """  # type: ignore[assignment]  # typeshed knows only the compiled form


def values_from_environment(environment: Mapping[str, str]) -> AsteriskValues:
    """Read the settings. Unset or empty variables take the default; ARI_PASS has none.

    Raises ConfigurationError for a bad value, and for port ranges that overlap.
    """
    defaults = AsteriskValues(ari_pass="")  # nothing is read from it but the other fields
    http_host, http_port = _host_and_port(
        environment.get("ARI_BASE") or f"http://{defaults.http_host}:{defaults.http_port}"
    )
    values = AsteriskValues(
        ari_user=_word(environment, "ARI_USER", defaults.ari_user),
        ari_pass=_secret(environment, "ARI_PASS"),
        ari_app=_word(environment, "ARI_APP", defaults.ari_app),
        http_host=http_host,
        http_port=http_port,
        sip_port=_port(environment, "SIP_PORT", defaults.sip_port),
        rtp_start=_port(environment, "ASTERISK_RTP_START", defaults.rtp_start),
        rtp_end=_port(environment, "ASTERISK_RTP_END", defaults.rtp_end),
        agent_wait_seconds=_seconds(environment, "AGENT_WAIT_SECONDS", defaults.agent_wait_seconds),
        answer_calls=_choice(environment, "ANSWER_CALLS", ("dialplan", "script")),
        hold_music_dir=_directory(environment, "HOLD_MUSIC_DIR", defaults.hold_music_dir),
        worker_rtp_start=_port(environment, "RTP_PORT_START", defaults.worker_rtp_start),
        worker_rtp_end=_port(environment, "RTP_PORT_END", defaults.worker_rtp_end),
    )
    _check_ranges(values)
    return values


def render(values: AsteriskValues, target_dir: Path) -> None:
    """Write the configuration into `target_dir`, which then holds no other `.conf` file.

    The directory and the files are readable for their owner only: they contain the ARI password.
    """
    target_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    target_dir.chmod(0o700)
    for old in target_dir.glob("*.conf"):
        old.unlink()
    for template in sorted(TEMPLATES.glob("*.conf")):
        text = ConfTemplate(template.read_text()).substitute(values.substitutions())
        target = target_dir / template.name
        target.touch(mode=0o600)
        target.write_text(text)
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


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) not in PORTS:
        raise ConfigurationError(
            f"{name} is {text!r}: it must be a port from {PORTS.start} to {PORTS.stop - 1}"
        )
    return int(text)


def _seconds(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or int(text) not in WAITS:
        raise ConfigurationError(
            f"{name} is {text!r}: it must be a whole number from 0 to {WAITS.stop - 1}"
        )
    return int(text)


def _word(environment: Mapping[str, str], name: str, default: str) -> str:
    """A name that is also safe as a section name and as an argument in the dialplan."""
    text = environment.get(name) or default
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ConfigurationError(
            f"{name} is {text!r}: it must be 1 to 64 letters, digits, '-' or '_'"
        )
    return text


def _choice(environment: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    """One of a few words; the first is the default."""
    text = environment.get(name) or allowed[0]
    if text not in allowed:
        raise ConfigurationError(f"{name} is {text!r}: it must be {' or '.join(allowed)}")
    return text


def _directory(environment: Mapping[str, str], name: str, default: str) -> str:
    text = environment.get(name) or default
    if not re.fullmatch(r"/[A-Za-z0-9_./-]{1,255}", text):
        raise ConfigurationError(
            f"{name} is {text!r}: it must be an absolute path of letters, digits, '.', '_' and '-'"
        )
    return text


def _secret(environment: Mapping[str, str], name: str) -> str:
    """A value of a `.conf` file, where `;` begins a comment and `\\` escapes. Never in an error."""
    text = environment.get(name, "")
    if not text:
        raise ConfigurationError(f"{name} is not set: it must hold a password for ARI")
    if not re.fullmatch(r"[!-~]+", text) or set(text) & set(";\\"):
        raise ConfigurationError(
            f"{name} (not shown) must be printable ASCII without blanks, ';' and '\\'"
        )
    return text


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
