#!/bin/sh
# Puts static Linux binaries into dist/<architecture>.
#
#   scripts/binaries.sh amd64|arm64 PACKAGE...
#
# They are linked on this machine if that is possible, and else inside a Rust image.
# BUILD=host or BUILD=image insists on one of the two; RUST_IMAGE names another image.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

arch=$1
shift
rust_image=${RUST_IMAGE:-rust:1.95-bookworm}
case $arch in
amd64) cpu=x86_64 ;;
arm64) cpu=aarch64 ;;
*) fail "unknown architecture $arch" ;;
esac

scratch=$(mktemp -d)
container=
cleanup() {
    rm -rf "$scratch"
    [ -z "$container" ] || docker rm --force "$container" >/dev/null
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# Whether the toolchain here is as new as the workspace asks for.
new_enough() {
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    rustc -V 2>/dev/null | awk -v wanted="$wanted" '
        { split($2, is, "."); split(wanted, must, ".") }
        END { exit !(is[1] > must[1] || is[1] == must[1] && is[2] >= must[2]) }'
}

# The target that links a static program for the engine's processor, if there is one.
static_target() {
    have cargo && new_enough || return 1
    host=$(rustc -vV | sed -n 's/^host: //p')
    case $host in
    "$cpu"-*-linux-*) ;;
    *) host= ;;
    esac
    echo 'fn main() {}' >"$scratch/link.rs"
    for target in $host "$cpu-unknown-linux-gnu" "$cpu-unknown-linux-musl"; do
        if rustc --target "$target" -C target-feature=+crt-static \
            -o "$scratch/link" "$scratch/link.rs" >"$scratch/link.log" 2>&1; then
            printf '%s\n' "$target"
            return 0
        fi
    done
    return 1
}

# Builds the packages named by the arguments for $target.
on_host() {
    packages=
    for package in "$@"; do packages="$packages --package $package"; done
    # shellcheck disable=SC2086
    RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
        cargo build --release --locked --target "$target" $packages
    built=$(cargo metadata --format-version 1 --no-deps --locked |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/$target/release
    for package in "$@"; do cp "$built/$package" "$scratch/"; done
}

# The same, inside the image. A volume keeps the registry and what was compiled, and no directory
# of this machine is mounted: the engine may be elsewhere, and would leave files of root.
in_image() {
    container=$(docker create --volume "$BUILD_VOLUME:/build" --workdir /src \
        --env CARGO_HOME=/build/cargo --env CARGO_TARGET_DIR=/build/target --env BUILD=host \
        "$rust_image" scripts/binaries.sh "$arch" "$@")
    tar -cf "$scratch/sources.tar" --exclude=./.git --exclude=./target --exclude=./dist \
        --exclude="./$RUN_DIR" .
    docker cp - "$container:/src" <"$scratch/sources.tar"
    docker start --attach "$container"
    docker cp "$container:/src/dist/$arch/." "$scratch/"
    rm -f "$scratch/sources.tar"
}

if [ "${BUILD:-auto}" != image ] && target=$(static_target); then
    say "building $* for $target"
    on_host "$@"
elif [ "${BUILD:-auto}" = host ]; then
    fail "a static program for $cpu cannot be linked here: $(tail -n 1 "$scratch/link.log" 2>&1)"
else
    say "building $* inside $rust_image"
    in_image "$@"
fi

# Independent of the umask, other users must be able to run the programs in an image.
mkdir -p "dist/$arch/state"
chmod 755 "dist/$arch/state"
for package in "$@"; do
    cp "$scratch/$package" "dist/$arch/$package.new"
    chmod 755 "dist/$arch/$package.new"
    mv "dist/$arch/$package.new" "dist/$arch/$package"
done
