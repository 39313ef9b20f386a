#!/bin/sh
# Starts the balancer, which starts its replicas: in a container where an engine answers, else as
# a process in the background. PORT and ADMIN_PORT are where it listens; DRIVER=docker or
# DRIVER=process insists on one of the two.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

PORT=${PORT:-5000}
ADMIN_PORT=${ADMIN_PORT:-9090}
# How long the fleet may take to serve, in seconds.
deadline=60
# How long it may take to bring each replica to a new image: bake, start, drain and stop.
roll_deadline=300

# Whether a port of this machine has a listener.
listening() { # port any|loopback
    if [ -r /proc/net/tcp ]; then
        for table in /proc/net/tcp /proc/net/tcp6; do
            [ ! -r "$table" ] || awk -v port="$(printf %04X "$1")" -v where="$2" '
                $4 == "0A" && split($2, local, ":") && local[2] == port {
                    if (where == "any" || local[1] ~ /^0+$|0100007F$/) found = 1
                }
                END { exit !found }' "$table" && return 0
        done
        return 1
    fi
    have lsof && lsof -nP -iTCP:"$1" -sTCP:LISTEN >/dev/null 2>&1
}

# Refuses a port that is in use, unless the fleet's own balancer uses it.
check_port() { # variable value any|loopback ports-of-ours
    case $2 in
    '' | *[!0-9]* | ??????*) fail "$1=$2 is not a port" ;;
    esac
    { [ "$2" -ge 1 ] && [ "$2" -le 65535 ]; } || fail "$1=$2 is not a port"
    case " $4 " in
    *" $2 "*) return 0 ;;
    esac
    ! listening "$2" "$3" || fail "port $2 is taken: choose another with $1=..., or end who has it"
}

check_ports() { # ports-of-ours
    check_port PORT "$PORT" any "$1"
    check_port ADMIN_PORT "$ADMIN_PORT" loopback "$1"
    [ "$PORT" -ne "$ADMIN_PORT" ] || fail "PORT and ADMIN_PORT are both $PORT"
}

# The replicas in service as "N: name, name", from GET /rep.
in_service() {
    get "http://127.0.0.1:$PORT/rep" 2>/dev/null |
        sed -n 's/.*"N":\([0-9]*\).*"replicas":\[\([^]]*\)\].*/\1: \2/p' | tr -d '"' | sed 's/,/, /g'
}

# The desired number of replicas: those of the ring, which outlives the balancer, or at the
# first start those of the configuration.
expected() { # whether there is a state
    if [ "$1" = yes ]; then
        get "http://127.0.0.1:$ADMIN_PORT/api/ring" 2>/dev/null | grep -o '"name":' | wc -l
    else
        sed -n 's/^replicas *= *\([0-9]*\).*/\1/p' ringmaster.toml
    fi
}

# Whether all replicas are in service; names them in `replicas`. If the list requires a token, one
# passing replica has to be enough, because that is readable without it.
serves() { # whether-there-is-a-state
    if grep -Eq '^admin_token(_file)? *=' ringmaster.toml; then
        replicas='some: (their list asks for the token)'
        get "http://127.0.0.1:$ADMIN_PORT/readyz" >/dev/null 2>&1
    else
        replicas=$(in_service) && [ -n "$replicas" ] &&
            [ "${replicas%%:*}" -eq "$(expected "$1")" ]
    fi
}

# Waits until all replicas are in service.
wait_for_fleet() { # whether-there-is-a-state, still-runs, show-log
    have curl || have wget || {
        say "started on port $PORT; whether it serves cannot be seen without curl or wget"
        exit 0
    }
    end=$(($(date +%s) + deadline))
    until serves "$1"; do
        if [ "$(date +%s)" -ge "$end" ]; then
            $3 >&2
            fail "not all replicas serve after $deadline s (${replicas:-no answer}), see above; make down removes it"
        fi
        $2 || {
            $3 >&2
            fail "the balancer has ended, see above; make down removes it"
        }
        sleep 0.2 2>/dev/null || sleep 1
    done
}

# Replicas that run another image or other settings are replaced one by one: shows how far that is,
# and waits for its end.
wait_for_roll() {
    shown=
    missed=0
    while :; do
        if ! status=$(get "http://127.0.0.1:$ADMIN_PORT/api/status" 2>/dev/null); then
            missed=$((missed + 1))
            if [ "$missed" -ge 10 ]; then
                say "whether replicas are being replaced cannot be seen: the admin port does not tell without its token; see ringmaster status"
                return 0
            fi
            sleep 0.5 2>/dev/null || sleep 1
            continue
        fi
        missed=0
        roll=$(echo "$status" | sed -n 's/.*"roll":{"state":"\([a-z]*\)","done":\([0-9]*\),"failures":\([0-9]*\).*/\1 \2 \3/p')
        case $roll in
        '') break ;;
        stopped*)
            why=$(echo "$status" | sed -n 's/.*"roll":{[^}]*"last_error":"\([^"]*\)".*/\1/p')
            fail "the new image was given up, the old one goes on: ${why:-its replicas failed}"
            ;;
        esac
        if [ "$roll" != "$shown" ]; then
            done=${roll#* }
            say "replacing replicas one by one: ${done% *} of ${replicas%%:*} run what is wanted"
            shown=$roll
            end=$(($(date +%s) + roll_deadline))
        fi
        [ "$(date +%s)" -lt "$end" ] ||
            fail "no replica was replaced within $roll_deadline s; see ringmaster status"
        sleep 0.5 2>/dev/null || sleep 1
    done
    [ -z "$shown" ] || replicas=$(in_service)
}

summary() { # how to see the log
    say "${replicas%%:*} replicas in service: ${replicas#*: }"
    cat <<EOF
  traffic   http://127.0.0.1:$PORT          curl http://127.0.0.1:$PORT/home
  replicas  curl http://127.0.0.1:$PORT/rep
            curl -X POST -d '{"n":1}' http://127.0.0.1:$PORT/add
  admin     http://127.0.0.1:$ADMIN_PORT/metrics
  log       $1
  end       make down
EOF
}

### In a container

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose --file docker-compose.yml --project-name ringmaster "$@"
    else
        docker-compose --file docker-compose.yml --project-name ringmaster "$@"
    fi
}

# Where the engine's socket is on the engine's machine, and which group may use it.
find_socket() {
    DOCKER_SOCKET=${DOCKER_SOCKET:-}
    if [ -z "$DOCKER_SOCKET" ]; then
        endpoint=${DOCKER_HOST:-$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || true)}
        case $endpoint in
        unix://*) DOCKER_SOCKET=${endpoint#unix://} ;;
        *) DOCKER_SOCKET=/var/run/docker.sock ;;
        esac
    fi
    gid=0
    case $(docker info --format '{{.OperatingSystem}} {{.SecurityOptions}}' 2>/dev/null) in
    # The engine runs in a virtual machine, where the socket belongs to root.
    *"Docker Desktop"*) DOCKER_SOCKET=/var/run/docker.sock ;;
    # The owner of the socket on this machine is root in a container.
    *rootless*) ;;
    *) [ ! -S "$DOCKER_SOCKET" ] || gid=$(stat -L -c %g "$DOCKER_SOCKET") ;;
    esac
    DOCKER_GID=${DOCKER_GID:-$gid}
    export DOCKER_SOCKET DOCKER_GID
}

ports_of_container() {
    for id in $(balancer_container); do
        docker port "$id" | sed -n 's/.*:\([0-9]*\)$/\1/p' | tr '\n' ' '
    done
}

# A container that restarts over and over does not count as running.
container_runs() {
    [ "$(docker inspect --format '{{.RestartCount}}' ringmaster)" -lt 3 ]
}

container_log() {
    docker logs --tail 20 ringmaster 2>&1
}

up_docker() {
    docker compose version >/dev/null 2>&1 || have docker-compose ||
        fail "there is an engine, but neither docker compose nor docker-compose: install one of them"
    check_ports "$(ports_of_container)"
    scripts/images.sh
    find_socket
    state=no
    ! docker volume inspect "$STATE_VOLUME" >/dev/null 2>&1 || state=yes
    # The balancer is not root; a strict umask at checkout must not hide the file from it.
    chmod a+r ringmaster.toml
    RINGMASTER_INPUTS=$({
        cksum <ringmaster.toml
        docker image inspect --format '{{.Id}}' ringmaster-server
    } | cksum | tr ' ' -)
    export PORT ADMIN_PORT RINGMASTER_INPUTS
    compose up --detach balancer
    wait_for_fleet "$state" container_runs container_log
    wait_for_roll
    summary 'docker logs -f ringmaster'
}

### As a process

ports_of_process() {
    ! balancer_process >/dev/null || cat "$RUN_DIR/ports"
}

process_runs() {
    balancer_process >/dev/null
}

process_log() {
    tail -n 20 "$RUN_DIR/log"
}

up_process() {
    check_ports "$(ports_of_process)"
    have cargo || fail "neither a Docker engine ($no_engine) nor cargo is here, and one is needed"
    cargo build --release --locked --package ringmaster --package ringmaster-server
    built=$(cargo metadata --format-version 1 --no-deps --locked |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release
    stop_process
    state=no
    [ ! -e "$RUN_DIR/state/state.json" ] || state=yes
    mkdir -p "$RUN_DIR/state"
    set -- "$built/ringmaster" serve --config ringmaster.toml --driver process \
        --command "$built/ringmaster-server" --state-dir "$RUN_DIR/state" \
        --listen "0.0.0.0:$PORT" --admin "127.0.0.1:$ADMIN_PORT"
    # A session of its own outlives the terminal's.
    ! have setsid || set -- setsid "$@"
    nohup "$@" </dev/null >"$RUN_DIR/log" 2>&1 &
    echo $! >"$RUN_DIR/pid"
    echo "$PORT $ADMIN_PORT" >"$RUN_DIR/ports"
    sleep 0.2 2>/dev/null || sleep 1
    wait_for_fleet "$state" process_runs process_log
    summary "tail -f $RUN_DIR/log"
}

case ${DRIVER:-auto} in
auto)
    if engine_answers; then
        up_docker
    else
        say "no Docker engine answers ($no_engine): the replicas will be processes"
        up_process
    fi
    ;;
docker)
    engine_answers || fail "no Docker engine answers: $no_engine"
    up_docker
    ;;
process)
    no_engine="not asked for"
    up_process
    ;;
*) fail "DRIVER=$DRIVER is neither docker nor process" ;;
esac
