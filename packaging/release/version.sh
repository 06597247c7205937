#!/usr/bin/env bash
# Prints the workspace's version.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml
