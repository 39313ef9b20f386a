#!/bin/sh
# Removes binaries, images, and the volume with build results of a container.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

rm -rf dist
! have cargo || cargo clean
engine_answers || exit 0
for image in ringmaster:latest ringmaster-server:latest ringmaster-server:test ringmaster-server:bench \
    ringmaster-node:latest ringmaster-redis:latest; do
    # Not by force: a running fleet keeps its images.
    [ -z "$(docker images --quiet "$image")" ] || docker rmi "$image" >/dev/null ||
        say "$image stays, see above (make down ends its containers)"
done
[ -z "$(docker volume ls --quiet --filter "name=^$BUILD_VOLUME\$")" ] ||
    docker volume rm "$BUILD_VOLUME" >/dev/null
