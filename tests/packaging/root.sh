#!/usr/bin/env bash
# Makes a Debian root with an init, as a tar, for the tests of packages and images:   tests/packaging/root.sh FILE
# Docker is not installed in it but lies there as packages, in the one repository that its apt knows: what a test
# installs needs no network. Takes half a minute; what is there already stays.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
[ ! -s "$1" ] || exit 0
mkdir -p "$(dirname "$1")"
exec 9>"$1.lock"
flock 9 # two test runs at once
[ ! -s "$1" ] || exit 0

# shellcheck disable=SC2016 # $1 is the root, for mmdebstrap to fill in
timeout 600 mmdebstrap --quiet --mode=root --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates \
    --customize-hook='chroot "$1" apt-get install -qq -y --no-install-recommends --download-only docker.io iptables >/dev/null' \
    --customize-hook='mkdir "$1/opt/packages" && mv "$1"/var/cache/apt/archives/*.deb "$1/opt/packages/"' \
    --customize-hook='cd "$1/opt/packages" && dpkg-scanpackages --multiversion . >Packages 2>/dev/null' \
    --customize-hook='rm -f "$1"/etc/apt/sources.list.d/* && echo "deb [trusted=yes] file:/opt/packages ./" >"$1/etc/apt/sources.list"' \
    --customize-hook='passwd --root "$1" --delete root >/dev/null' \
    bookworm "$1.new.tar"
mv "$1.new.tar" "$1"
