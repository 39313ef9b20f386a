#!/bin/sh
# Runs the experiments A-1 to A-3 against a running balancer, and starts one if none answers at
# URL; A-4 starts balancers of its own, as processes.
#
#   scripts/analysis.sh URL ADMIN_URL
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

url=$1
admin_url=$2
get "$url/rep" >/dev/null 2>&1 || scripts/up.sh

set -- --url "$url" --admin-url "$admin_url" --out analysis/results
cargo build --release --locked --workspace
built=$(cargo metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release
analysis=$built/analysis
"$analysis" a1 "$@"
"$analysis" a2 "$@"
if balancer_process >/dev/null; then
    "$analysis" a3 --kill 'scripts/kill-replica.sh {name}' "$@"
else
    "$analysis" a3 "$@"
fi
"$analysis" a4 --ringmaster "$built/ringmaster" --server "$built/ringmaster-server" \
    --out analysis/results
