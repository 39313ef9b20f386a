#!/bin/sh
# Removes what `make up` and the balancer have made: containers, networks, the state; nothing that
# does not bear our label or name. Images and what was compiled stay, see `make clean`.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

stop_process
rm -rf "$RUN_DIR"

if ! engine_answers; then
    say "no Docker engine answers ($no_engine): no containers to remove"
    exit 0
fi

removed=0
remove() { # command-words, then what to remove
    what=$1
    shift
    [ $# -gt 0 ] || return 0
    # shellcheck disable=SC2086
    docker $what "$@" >/dev/null
    removed=$((removed + $#))
}

# The balancer first: it would replace what we remove.
# shellcheck disable=SC2046
{
    remove "container rm --force --volumes" $(docker ps --all --quiet --filter "label=$BALANCER_LABEL")
    remove "container rm --force --volumes" $(docker ps --all --quiet --filter "label=$FLEET_LABEL")
    for label in "$FLEET_LABEL" "$BALANCER_LABEL"; do
        remove "network rm" $(docker network ls --quiet --filter "label=$label")
    done
    remove "volume rm" $(docker volume ls --quiet --filter "name=^$STATE_VOLUME\$")
}
say "removed $removed containers, networks and volumes"
