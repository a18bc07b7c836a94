"""Run Asterisk from the root file system of `deploy.asterisk_rootfs`, without Docker.

`python -m deploy.run_asterisk` turns into Asterisk: it renders the configuration from the
environment (and `.env`), enters a mount namespace of its own and executes Asterisk there, all in
one process. Signals therefore reach Asterisk itself, SIGTERM and SIGINT end it with exit code 0,
and however it dies, the kernel takes the mounts down with it. What Asterisk writes goes to memory;
the cached root file system is never changed, so several instances can run at once on different
ports. The network is the machine's own.

`python -m deploy.run_asterisk --cli "core show channels"` asks a running instance.
"""

import argparse
import fcntl
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from dotenv import dotenv_values

from deploy.asterisk_config import (
    AsteriskValues,
    ConfigurationError,
    render,
    values_from_environment,
)
from deploy.asterisk_rootfs import RootfsError, ensure_rootfs
from deploy.cache import cache_dir
from deploy.conf_files import CANNOT_START

PID_FILE = "asterisk.pid"

# $1: the root file system, $2: the instance's directory, $3: the supervisor's sounds, if any. The
# configuration is copied, not mounted, so that it can belong to the user that Asterisk runs as
# without changing owner outside.
ENTER = """
root=$2/root
mount -t tmpfs -o mode=0755 tmpfs "$root"
mkdir "$root/upper" "$root/work"
mount -t overlay -o "lowerdir=$1,upperdir=$root/upper,workdir=$root/work" overlay "$root"
mount --bind /dev "$root/dev"
mount -t proc proc "$root/proc"
rm -r "$root/etc/asterisk"
cp -r "$2/etc" "$root/etc/asterisk"
cp "$2/hosts" "$root/etc/hosts"
cp /etc/resolv.conf "$root/etc/resolv.conf"
if [ -n "$3" ]; then
    mkdir -p "$3" "$root$3"
    mount --bind "$3" "$root$3"
fi
mkdir -p "$root/run/asterisk"
chroot "$root" chown -R asterisk:asterisk /etc/asterisk /run/asterisk
exec chroot "$root" /usr/sbin/asterisk -f
"""


class NotRunningError(Exception):
    """No Asterisk runs in the instance's directory, or it doesn't answer."""


def default_instance() -> Path:
    """The directory of the instance that runs when none is named."""
    return cache_dir() / "asterisk-instance"


def cli(instance: Path, command: str) -> str:
    """Run a command of Asterisk's console in a running instance and return what it prints.

    Asterisk's exit code says nothing about the command: judge by the text.
    Raises NotRunningError if there is no instance, or it doesn't listen (yet, or any more).
    """
    enter = ["nsenter", "--target", str(_running_pid(instance)), "--mount", "--root"]
    # Through chroot for its change of directory: Asterisk complains if it starts outside its root.
    console = ["chroot", "/", "/usr/sbin/asterisk", "-rx", command]
    answer = subprocess.run([*enter, *console], capture_output=True, text=True)
    if answer.returncode != 0:
        why = " ".join((answer.stdout + answer.stderr).split())
        raise NotRunningError(f"The Asterisk in {str(instance)!r} doesn't answer: {why}")
    return answer.stdout


def become_asterisk(instance: Path, values: AsteriskValues, sounds_dir: str = "") -> NoReturn:
    """Replace this process by Asterisk, configured with `values`, in the directory `instance`.

    It sees `sounds_dir`, where the supervisor puts sounds, under the same name.

    Raises ConfigurationError if a port is taken or an Asterisk already runs in the directory,
    RootfsError if there is no root file system and none can be built.
    """
    rootfs = ensure_rootfs()
    instance = instance.absolute()
    (instance / "root").mkdir(mode=0o700, parents=True, exist_ok=True)
    _claim(instance)
    _require_free_ports(values)
    render(values, instance / "etc")
    (instance / "hosts").write_text(_hosts())
    script = ["sh", "-euc", ENTER, "run_asterisk", str(rootfs), str(instance), sounds_dir]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # dumps hold what was said
    sys.stdout.flush()
    os.execvp("unshare", ["unshare", "--mount", *script])


def _claim(instance: Path) -> None:
    """Write our process id, which will be Asterisk's, into a file that stays locked while it lives.

    The descriptor is left open on purpose: Asterisk inherits it, and the kernel gives the lock back
    when Asterisk ends. So a stale file is told from a running instance by the lock.
    """
    descriptor = os.open(instance / PID_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigurationError(
            f"--instance is {str(instance)!r}: an Asterisk runs there already; stop it first"
        ) from error
    os.set_inheritable(descriptor, True)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())


def _running_pid(instance: Path) -> int:
    """The process id of the Asterisk in `instance`, whose lock on the file says that it lives."""
    not_running = NotRunningError(f"No Asterisk runs in {str(instance)!r}")
    try:
        with (instance / PID_FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError as error:
        raise not_running from error
    except BlockingIOError:
        text = (instance / PID_FILE).read_text()
        if text:  # else it is locked already, and not yet written
            return int(text)
    raise not_running


def _require_free_ports(values: AsteriskValues) -> None:
    """Refuse to start on taken ports: Asterisk would only log an error and run without them."""
    trunk = values.trunk
    sip = (
        ("SIP_TLS_PORT", socket.SOCK_STREAM, trunk.host, trunk.port)
        if trunk
        else ("SIP_PORT", socket.SOCK_DGRAM, values.sip_host, values.sip_port)
    )
    ari = ("ARI_BASE", socket.SOCK_STREAM, values.http_host, values.http_port)
    for variable, kind, host, port in (ari, sip):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, kind) as trial:
            if kind == socket.SOCK_STREAM:
                # As Asterisk does: connections of a former instance in TIME_WAIT don't matter.
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, port))
            except OSError as error:
                raise ConfigurationError(
                    f"{variable} means {host}:{port}, which can't be bound ({error.strerror}):"
                    " it must be a free port of this machine"
                ) from error


def _hosts() -> str:
    """Asterisk's /etc/hosts: the machine's own, after the two names that Asterisk looks up itself.

    To find its own address when it writes SDP, Asterisk resolves its host name and, failing that,
    A.ROOT-SERVERS.NET (main/acl.c, ast_find_ourip). Without DNS each costs seconds, and calls wait.
    """
    names = f"127.0.0.1 localhost {socket.gethostname()} A.ROOT-SERVERS.NET\n"
    own = Path("/etc/hosts")
    return names + (own.read_text() if own.exists() else "")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code, or doesn't return but becomes Asterisk."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.run_asterisk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--instance",
        type=Path,
        default=default_instance(),
        help="directory of this instance's files (default: %(default)s)",
    )
    parser.add_argument("--cli", metavar="COMMAND", help="ask the running instance, print, exit")
    options = parser.parse_args(arguments)
    try:
        if options.cli is not None:
            sys.stdout.write(cli(options.instance, options.cli))
            return 0
        dotenv = {name: value or "" for name, value in dotenv_values(".env").items()}
        variables = {**dotenv, **os.environ}
        sounds_dir = variables.get("SOUNDS_DIR", "")
        become_asterisk(options.instance, values_from_environment(variables), sounds_dir)
    except (ConfigurationError, RootfsError, NotRunningError) as error:
        sys.stderr.write(f"{error}\n")
        return CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
