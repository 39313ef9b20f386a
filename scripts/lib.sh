# shellcheck shell=sh
# Functions that the other scripts share. To be sourced; changes to the top folder.

cd "$(dirname "$0")/.." || exit 1

# Names on the engine. Objects of the fleet have the first label, those of the balancer the second.
# shellcheck disable=SC2034
{
    FLEET_LABEL=ringmaster.fleet=default
    BALANCER_LABEL=ringmaster.balances=default
    STATE_VOLUME=ringmaster-state
    BUILD_VOLUME=ringmaster-build
    RUN_DIR=.ringmaster
}

say() {
    printf 'ringmaster: %s\n' "$*"
}

fail() {
    printf 'ringmaster: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Whether an engine responds. Otherwise $no_engine says why, in one line.
engine_answers() {
    no_engine="there is no docker command"
    have docker || return 1
    no_engine=$(docker version --format '{{.Server.Version}}' 2>&1 >/dev/null) && return 0
    no_engine=$(printf '%s\n' "$no_engine" | tail -n 1)
    return 1
}

# The engine's architecture, as Docker and dist/ call it.
engine_arch() {
    engine=$(docker version --format '{{.Server.Os}}/{{.Server.Arch}}')
    case $engine in
    linux/amd64 | linux/arm64) printf '%s\n' "${engine#linux/}" ;;
    *) fail "the engine runs on $engine, and only linux/amd64 and linux/arm64 are supported" ;;
    esac
}

# A `docker build` of one of the two images. Its output is shown only when it fails.
build_image() { # target tag architecture
    words=$(docker build --target "$1" --tag "$2" --build-arg "TARGETARCH=$3" . 2>&1) ||
        fail "cannot build the image $2: $words"
    size=$(docker image inspect --format '{{.Size}}' "$2")
    say "image $2, $((size / 1000)) kB"
}

# The running balancer's container.
balancer_container() {
    docker ps --quiet --filter label=ringmaster.role=balancer --filter "label=$BALANCER_LABEL"
}

# The process id of a balancer that runs without an engine; fails when there is none.
balancer_process() {
    [ -r "$RUN_DIR/pid" ] || return 1
    read -r pid <"$RUN_DIR/pid" || return 1
    # The process id may have been reused.
    if [ -d /proc/self ]; then
        command_line=$(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") || return 1
    else
        command_line=$(ps -o args= -p "$pid") || return 1
    fi
    case $command_line in
    *"ringmaster serve "*) printf '%s\n' "$pid" ;;
    *) return 1 ;;
    esac
}

# Ends a balancer that runs without an engine, and with it its replicas.
stop_process() {
    pid=$(balancer_process) || return 0
    kill "$pid"
    waited=0
    while balancer_process >/dev/null; do
        [ "$waited" -lt 20 ] || kill -9 "$pid" 2>/dev/null || true
        waited=$((waited + 1))
        sleep 1
    done
    say "stopped the balancer (process $pid)"
}

# GET, the body to standard output.
get() {
    if have curl; then
        curl --silent --fail --noproxy '*' --max-time 5 "$1"
    else
        wget --quiet --no-proxy --timeout=5 --tries=1 --output-document=- "$1"
    fi
}
