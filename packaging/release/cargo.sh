#!/usr/bin/env bash
# Cargo for one target, set up so that the same commit gives the same bytes wherever it is built:
#   packaging/release/cargo.sh TARGET SUBCOMMAND [ARG…]     TARGET: x86_64-unknown-linux-musl | aarch64-unknown-linux-musl
# `make build` goes through it as `make dist` does, so that what is tested is what ships.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ $# -ge 2 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
target=$1 subcommand=$2
shift 2
cargo=${CARGO:-cargo}

# Dependencies have their absolute paths in panic messages: the registry's directory is the one place that differs from
# machine to machine. The workspace's own paths are relative, and the standard library's are /rustc/COMMIT unless its
# sources are installed. These have to be there before they can be named.
"$cargo" fetch --locked --quiet --target "$target"
flags=("--remap-path-prefix=$PWD=/vmjob")
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    flags+=("--remap-path-prefix=$registry=/cargo")
done
flags+=("--remap-path-prefix=$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$(rustc -vV | sed -n 's/^commit-hash: //p')")

if [ "$target" = aarch64-unknown-linux-musl ]; then
    # ring has C and assembly in it; rust-lld links them with the C library that Rust brings along.
    export CC_aarch64_unknown_linux_musl=${CC_aarch64_unknown_linux_musl:-aarch64-linux-gnu-gcc}
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER:-rust-lld}
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER=${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER:-qemu-aarch64-static}
fi

# RUSTFLAGS would replace the flags of .cargo/config.toml; arrays given with --config are added to them.
printf -v list "'%s'," "${flags[@]}"
exec "$cargo" "$subcommand" --config "target.$target.rustflags=[$list]" --locked --target "$target" "$@"
