#!/bin/sh
# Measures several processes of one fleet: commands at any of them, a takeover, a Redis that is lost,
# CPU per request of a balancer, statistics. Where a Docker engine answers, with containers as well.
#
# ROUNDS=5 pauses the Redis five times instead of twice, ONLY=servers,lost measures these alone.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

have redis-server || fail "redis-server is not installed; on Debian: apt-get install redis-server"
have wrk || fail "wrk is not installed; on Debian: apt-get install wrk"
have setpriv || fail "setpriv is not installed; on Debian: apt-get install util-linux"
have taskset || fail "taskset is not installed; on Debian: apt-get install util-linux"

cargo build --release --locked --workspace --bins
built=$(cargo metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release

image=
if engine_answers; then
    image=ringmaster-server:bench
    arch=$(engine_arch)
    scripts/binaries.sh "$arch" ringmaster-server
    build_image server "$image" "$arch"
else
    say "without containers, for no engine answers ($no_engine)"
fi

"$built/analysis" roles --ringmaster "$built/ringmaster" \
    --server "$built/ringmaster-server" ${image:+--image="$image"} --pauses "${ROUNDS:-2}" \
    ${ONLY:+--only="$ONLY"} --out "${OUT:-analysis/results}"
