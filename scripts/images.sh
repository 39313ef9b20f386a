#!/bin/sh
# Builds both images for the engine.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

engine_answers || fail "no Docker engine answers: $no_engine"
arch=$(engine_arch)
scripts/binaries.sh "$arch" ringmaster ringmaster-server
build_image server ringmaster-server "$arch"
build_image balancer ringmaster "$arch"
