#!/usr/bin/env bash
# Builds the Debian package of a binary that is there already:   packaging/deb/build.sh ARCH BINARY DIRECTORY
# ARCH is amd64 or arm64. The same input and the same SOURCE_DATE_EPOCH give the same bytes.
# nFPM makes it (the variable NFPM says where it is), as it is one program that comes prebuilt; cargo-deb is to be compiled first.
#   DEBFULLNAME, DEBEMAIL    the maintainer, as Debian's own tools read them
set -euo pipefail
[ $# = 3 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
ARCH=$1 BINARY=$(realpath "$2") out=$(realpath "$3")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
VERSION=${VERSION:-$(packaging/release/version.sh)} # another one only for tests of upgrades
MAINTAINER="${DEBFULLNAME:-vmjob maintainers} <${DEBEMAIL:-maintainers@vmjob.invalid}>"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT
export ARCH BINARY VERSION MAINTAINER SOURCE_DATE_EPOCH STAGE

gzip -9n <packaging/man/vmjob-agent.8 >"$STAGE/vmjob-agent.8.gz"
gzip -9n <CHANGELOG.md >"$STAGE/changelog.gz"
gzip -9n >"$STAGE/changelog.Debian.gz" <<END
vmjob-agent ($VERSION-1) stable; urgency=medium

  * Release $VERSION. What is new stands in changelog.gz.

 -- $MAINTAINER  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END
"${NFPM:-nfpm}" package --config packaging/deb/nfpm.yaml --packager deb --target "$out/vmjob-agent_$VERSION-1_$ARCH.deb"
