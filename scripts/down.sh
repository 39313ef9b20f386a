#!/bin/sh
# Removes what `make up` and the balancer have made: containers, networks, the state; only what has
# the project's labels or names. Images and build results stay, see `make clean`.
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
stayed=0
remove() { # the docker command, then what it removes
    what=$1
    shift
    [ $# -gt 0 ] || return 0
    # shellcheck disable=SC2086
    if docker $what "$@" >/dev/null; then
        removed=$((removed + $#))
    else
        stayed=1
    fi
}

# Networks of fleets beside the default one that are left over: made by a balancer, with no container
# on them, running or not, and no container of their fleet.
leftover_networks() {
    docker network ls --filter label=ringmaster.fleet \
        --format '{{.ID}} {{.Label "ringmaster.fleet"}}' |
        while read -r id fleet; do
            used=$(
                docker ps --all --quiet --filter "network=$id"
                docker ps --all --quiet --filter "label=ringmaster.fleet=$fleet"
                docker ps --all --quiet --filter "label=ringmaster.balances=$fleet"
            )
            [ -n "$used" ] || printf '%s\n' "$id"
        done
}

# The balancer first: it would replace removed containers. After SIGTERM it starts nothing more.
# shellcheck disable=SC2046
{
    for id in $(balancer_container); do docker stop "$id" >/dev/null; done
    remove "rm --force --volumes" $(docker ps --all --quiet --filter "label=$BALANCER_LABEL")
    remove "rm --force --volumes" $(docker ps --all --quiet --filter "label=$FLEET_LABEL")
    remove "network rm" $(docker network ls --quiet --filter "label=$FLEET_LABEL")
    remove "network rm" $(docker network ls --quiet --filter "label=$BALANCER_LABEL")
    remove "network rm" $(leftover_networks)
    remove "volume rm" $(docker volume ls --quiet --filter "name=^$STATE_VOLUME\$")
}
say "removed $removed containers, networks and volumes"
[ "$stayed" -eq 0 ] || fail "the engine refused some, see above: containers of others may be using them"
