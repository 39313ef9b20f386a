#!/bin/sh
# Runs each fuzz target for a while: SECONDS_EACH=60 ONLY=target,target. What it finds lies in
# fuzz/artifacts; the corpus that grows is kept in the target folder, the seeds in fuzz/corpus.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

SECONDS_EACH=${SECONDS_EACH:-60}
built=$(cargo metadata --format-version 1 --no-deps --locked |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
PATH=$built/tools/bin:$PATH

if ! have rustup || ! rustup run nightly rustc --version >/dev/null 2>&1; then
    fail "a nightly toolchain is missing: rustup toolchain install nightly"
fi
have c++ || fail "a C++ compiler is missing: apt-get install g++"
have cargo-fuzz || {
    say "installing cargo-fuzz into $built/tools"
    cargo install --quiet --locked --root "$built/tools" cargo-fuzz ||
        fail "cargo-fuzz is missing, and cargo cannot install it"
}

# Its flags apply to every dependency, so its build results have a folder of their own.
RUSTUP_TOOLCHAIN=nightly
CARGO_TARGET_DIR=$built/fuzz
export RUSTUP_TOOLCHAIN CARGO_TARGET_DIR
cargo fuzz build
failed=
for target in $(cargo fuzz list); do
    case ,${ONLY:-$target}, in *,"$target",*) ;; *) continue ;; esac
    grown=$built/fuzz/corpus/$target
    mkdir -p "$grown"
    say "$target, $SECONDS_EACH s"
    cargo fuzz run "$target" "$grown" "fuzz/corpus/$target" -- \
        -max_total_time="$SECONDS_EACH" -max_len=65536 -timeout=10 -print_final_stats=1 ||
        failed="$failed $target"
done
[ -z "$failed" ] || fail "something does not hold:$failed"
