#!/bin/sh
# CPU time per request side by side with HAProxy, into analysis/results: each proxy alone on one
# core, the load and the replicas on another. ROUNDS and REQUESTS change the size.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

have haproxy || fail "haproxy is not installed; on Debian: apt-get install haproxy"
have taskset || fail "taskset is not installed; on Debian: apt-get install util-linux"
[ "$(getconf _NPROCESSORS_ONLN)" -ge 2 ] || fail "two cores are needed: one for the proxy, one for the load"

cargo build --release --locked --workspace
built=$(cargo metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release
taskset -c 1 "$built/analysis" peers --ringmaster "$built/ringmaster" \
    --server "$built/ringmaster-server" --rounds "${ROUNDS:-5}" --requests "${REQUESTS:-100000}"
