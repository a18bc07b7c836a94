#!/usr/bin/env bash
# Build all images with whichever builder is here: docker, podman or buildah (or BUILDER=...).
# BASE and ASTERISK_BASE name other base images, UV_DEFAULT_INDEX and PIP_INDEX_URL other indexes;
# EXTRA=traces brings OpenTelemetry along; further arguments go to the builder. Without arguments of its own: all three targets.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ -z "${BUILDER:-}" ]; then
    for BUILDER in docker podman buildah; do
        command -v "$BUILDER" >/dev/null && "$BUILDER" info >/dev/null 2>&1 && break
        BUILDER=''
    done
fi
[ -n "$BUILDER" ] || { echo "no builder here: install docker, podman or buildah" >&2; exit 1; }
# OCI's own format has no HEALTHCHECK; docker builds nothing else than what is wanted here.
case $BUILDER in
    docker) build=(docker build) ;;
    *) build=("$BUILDER" build --format docker --layers) ;;
esac

arguments=()
for name in BASE ASTERISK_BASE UV_VERSION EXTRA UV_DEFAULT_INDEX PIP_INDEX_URL; do
    [ -z "${!name:-}" ] || arguments+=(--build-arg "$name=${!name}")
done
for target in ${TARGETS:-supervisor voice-agent asterisk}; do
    echo "== $target ($BUILDER)"
    "${build[@]}" "${arguments[@]}" "$@" --file deploy/docker/Dockerfile --target "$target" \
        --tag "${IMAGE_PREFIX:-open-telephony-stack}/$target:${IMAGE_TAG:-latest}" .
done
