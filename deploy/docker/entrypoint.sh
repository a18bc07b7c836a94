#!/bin/sh
# Secrets come as files: the content of /run/secrets/ARI_PASS becomes the variable ARI_PASS, unless
# that is set already. Then the command takes this process's place.
set -eu
for file in "${SECRETS_DIR:-/run/secrets}"/*; do
    [ -f "$file" ] || continue
    name=$(basename "$file")
    case $name in
        *[!A-Z0-9_]* | [0-9]*)
            echo "$file: a secret is named like its variable, e.g. ARI_PASS" >&2
            exit 78
            ;;
    esac
    eval "is_set=\${$name:+yes}"
    [ -n "$is_set" ] || export "$name=$(cat "$file")"
done
exec "$@"
