#!/bin/sh
# Kills a replica of the balancer that `make up` runs without an engine (Linux).
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

balancer_process >/dev/null || fail "no balancer runs here as a process"
for environment in /proc/[0-9]*/environ; do
    # A process may end while we look.
    if tr '\0' '\n' <"$environment" 2>/dev/null | grep -qx "SERVER_ID=$1"; then
        process=${environment#/proc/}
        kill -9 "${process%/environ}"
        exit 0
    fi
done
fail "no replica is called $1"
