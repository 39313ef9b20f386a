#!/bin/sh
# Kills a replica of the balancer that `make up` runs without an engine (Linux).
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

balancer=$(balancer_process) || fail "no balancer runs here as a process"
# Only children of the balancer: containers have such names too.
# shellcheck disable=SC2013
for process in $(cat "/proc/$balancer/task/"*/children); do
    if tr '\0' '\n' 2>/dev/null <"/proc/$process/environ" | grep -qx "SERVER_ID=$1"; then
        kill -9 "$process"
        exit 0
    fi
done
fail "no replica is called $1"
