#!/bin/sh
# All tests. Those that need a Docker engine are skipped with one line where none answers, unless
# RINGMASTER_TEST_DOCKER=required; those that need Debian's redis-server likewise, with
# RINGMASTER_TEST_REDIS=required.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

if engine_answers; then
    RINGMASTER_TEST_IMAGE=${RINGMASTER_TEST_IMAGE:-ringmaster-server:test}
    export RINGMASTER_TEST_IMAGE
    arch=$(engine_arch)
    scripts/binaries.sh "$arch" ringmaster-server
    build_image server "$RINGMASTER_TEST_IMAGE" "$arch"
elif [ "${RINGMASTER_TEST_DOCKER:-}" = required ]; then
    fail "no Docker engine answers, and the tests require one: $no_engine"
else
    say "SKIPPED: the tests with Docker, for no engine answers ($no_engine)"
fi
cargo test --locked --workspace --no-fail-fast
# The tests of the data plane once more, on its own codec.
RINGMASTER_PROXY_ENGINE=own cargo test --locked --workspace --test proxy
