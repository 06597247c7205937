#!/usr/bin/env bash
# Writes the bill of materials of the agent for a target, as CycloneDX JSON, to stdout:   packaging/release/sbom.sh TARGET
# Every crate that goes into the build, with version, checksum and licence. The same commit gives the same bytes.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

# It writes its files beside the manifest of each crate of the workspace: into a copy, then.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp --parents -t "$copy" Cargo.toml Cargo.lock
find agent tests -name target -prune -o \( -name Cargo.toml -o -path '*/src/main.rs' -o -path '*/src/lib.rs' \) -print0 \
    | xargs -0 cp --parents -t "$copy"
"${CARGO_CYCLONEDX:-cargo-cyclonedx}" cyclonedx --quiet --manifest-path "$copy/agent/Cargo.toml" --format json \
    --describe binaries --target "$1" --spec-version 1.5
sed "s|file://$copy|file://.|" "$copy/agent/vmjob-agent_bin.cdx.json"
