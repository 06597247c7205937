#!/bin/sh
# Fetches Google's own clients, which the tests hold the fake servers against, into DIR. Nothing is
# installed on the machine; a part that is there already stays. Fails when a part cannot be had, but
# tries them all.
#
#   DIR/google-auth/bin/python                                  Python with google-auth (PyPI)
#   DIR/google-guest-agent/usr/bin/google_metadata_script_runner  the startup script runner (Debian)
set -eu

[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
cd "$1"
exec 9>.lock
flock 9 # two test runs at once

fetch() {
    case $1 in
    google-auth)
        python3 -m venv "$1" &&
            "$1/bin/pip" install --quiet --disable-pip-version-check 'google-auth>=2,<3' 'requests>=2,<3'
        ;;
    google-guest-agent)
        mkdir "$1" &&
            (cd "$1" && apt-get -qq --option APT::Sandbox::User=root download "$1" && dpkg-deb --extract ./*.deb .)
        ;;
    esac
}

failed=0
for part in google-auth google-guest-agent; do
    [ ! -e ".$part.done" ] || continue # the stamp of a part that is whole
    rm -rf "./$part"
    if fetch "$part" && touch ".$part.done"; then
        echo "fetched $part"
    else
        echo "failed to fetch $part" >&2
        failed=1
    fi
done
exit "$failed"
