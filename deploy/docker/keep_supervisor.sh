#!/bin/sh
# First process of the supervisor's container: starts the supervisor again when it dies. The kernel
# kills all else in a container when the first process ends, so that the supervisor itself can't be
# it: its workers, which go on with the calls meanwhile, would die with it. `wait` reaps them too.
set -u
supervisor='' stopping='' status=0

signal() {
    [ -z "$supervisor" ] || kill "-$1" "$supervisor" 2>/dev/null
}
trap 'stopping=yes; signal TERM' TERM INT
trap 'signal HUP' HUP

while [ -z "$stopping" ]; do
    python -m supervisor &
    supervisor=$!
    [ -z "$stopping" ] || signal TERM # it came in between
    while kill -0 "$supervisor" 2>/dev/null; do # a signal to us ends `wait` early
        wait "$supervisor"
        status=$?
    done
    # 0: stopped on purpose; 78: a setting that makes no sense won't make more on the next try.
    case $status in 0 | 78) break ;; esac
    sleep 0.2
done
exit "$status"
