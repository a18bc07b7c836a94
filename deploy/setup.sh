#!/usr/bin/env bash
# Makes a machine ready for this project; safe and quick to run again. It changes nothing in the
# checkout but .venv, and prints one line for each thing that it installs.
#
# Wanted: uv (which brings the Python packages, and a Python if need be), and on Debian what a real
# Asterisk without Docker takes (deploy/asterisk_rootfs.py). Without root's rights it says what is
# missing and goes on with what there is. Prometheus, which only tests need, they fetch themselves
# (deploy/prometheus_package.py).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CACHE=${OTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}}/open-telephony-stack
BIN=$HOME/.local/bin # the Makefile has it on its PATH
PATH=$PATH:/usr/sbin:/sbin:$BIN
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt

say() { echo "setup: $*"; }
fail() { say "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null; }

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" >/dev/null
}

# install PACKAGE...: with apt; fails if that is not possible. The package lists are fetched only
# when they turn out to be missing or too old.
install() {
    if ! has apt-get; then
        say "missing: $* (no apt-get here to install it)" >&2
        return 1
    elif [ "$(id -u)" != 0 ]; then
        say "missing: $* (as root: apt-get install $*)" >&2
        return 1
    fi
    if ! apt install --yes --no-install-recommends "$@" 2>/dev/null; then
        apt update && apt install --yes --no-install-recommends "$@" || return 1
    fi
    say "installed $*"
}

# What apt says of Debian's archive: where debootstrap finds its mirror.
knows_debian() {
    [ -n "$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' 'Component: main')" ]
}

prepare_asterisk() {
    local missing=()
    has debootstrap || missing+=(debootstrap)
    [ -e "$KEYRING" ] || missing+=(debian-archive-keyring)
    has unshare && has nsenter || missing+=(util-linux)
    has mount || missing+=(mount)
    [ ${#missing[@]} = 0 ] || install "${missing[@]}" || return 1
    if has apt-get && [ "$(id -u)" = 0 ] && ! knows_debian; then
        apt update && say "fetched apt's package lists"
    fi
}

install_uv() {
    if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
        install python3 python3-venv || fail "uv needs python3 with venv, or install uv yourself"
    fi
    mkdir -p "$CACHE" "$BIN"
    python3 -m venv "$CACHE/uv"
    "$CACHE/uv/bin/python" -m pip install --quiet --disable-pip-version-check uv
    ln -sf "$CACHE/uv/bin/uv" "$BIN/uv"
    say "installed uv ($BIN/uv)"
}

if [ "${1:-}" = compiler ]; then # for the benchmark's programs in C
    install gcc libc6-dev || fail "the benchmark needs a C compiler"
    exit
fi

if [ "${1:-}" = browser ]; then # for tests and pictures of the console
    install chromium fonts-inter || fail "the console's tests need Chromium"
    exit
fi

[ -e "$CA_BUNDLE" ] || install ca-certificates || say "going on without it" >&2
prepare_asterisk || say "going on without a real Asterisk" >&2
uv --version >/dev/null 2>&1 || install_uv

# The distribution's own interpreter, where it is new enough: it is built with profile-guided
# optimisation, and a worker needs 15 % less CPU with it than with one built without.
OWN=/usr/bin/python3
if [ -z "${UV_PYTHON:-}" ] && "$OWN" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    export UV_PYTHON=$OWN
fi

[ -d .venv ] && existed=yes || existed=no
uv sync --locked --quiet
[ $existed = yes ] || say "installed the Python packages (.venv)"
