#!/bin/sh
# Makes DIR/workflows, a Python with the Workflows engine and the tools that test the files of packaging/workflows (PyPI,
# pinned in requirements.txt). Nothing is installed on the machine; one that is there already, and whole, stays.
set -eu

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
requirements=$(cd "$(dirname "$0")" && pwd)/requirements.txt
mkdir -p "$1"
cd "$1"
exec 9>.workflows.lock
flock 9 # two test runs at once

stamp=workflows/.requirements
if cmp -s "$requirements" "$stamp"; then exit 0; fi
rm -rf workflows
python3 -m venv workflows
workflows/bin/pip install --quiet --disable-pip-version-check --requirement "$requirements"
cp "$requirements" "$stamp"
echo 'fetched workflows'
