#!/usr/bin/env bash
# Puts dist/ into a bucket, under vmjob/VERSION/:   packaging/release/publish.sh [--dry-run] gs://BUCKET
# What was released stays as it is: a file that is there already is left where it has the same bytes, and ends everything
# where it has others. So a publication that broke off is simply done again. SHA256SUMS comes last: with it, all is there.
#   GCLOUD   default: gcloud
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
die() { printf 'publish: error: %s\n' "$*" >&2; exit 1; }
say() { printf 'publish: %s\n' "$*"; }

dry_run=
if [ "${1:-}" = --dry-run ]; then dry_run=1; shift; fi
[ $# = 1 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
case $1 in gs://?*) bucket=${1%/} ;; *) die "$1 is no bucket: gs://BUCKET" ;; esac
version=$(packaging/release/version.sh)
place=$bucket/vmjob/$version

[ -z "$(git status --porcelain)" ] || die 'there are changes that are not committed'
grep -qE "^## \[?${version//./\\.}\]?( |\$)" CHANGELOG.md || die "CHANGELOG.md has no heading \"## $version\": put it over what is new (in place of \"## [Unreleased]\"), commit, and make dist again"
[ -f dist/SHA256SUMS ] || die 'there is no dist/: make dist'
grep -qx "commit $(git rev-parse HEAD)" dist/BUILD || die "dist/ is of another commit ($(sed -n 's/^commit //p' dist/BUILD)): make dist"
(cd dist && sha256sum --check --quiet --strict SHA256SUMS) || die 'dist/ is not as it was made: make dist'
mapfile -t files < <(sed 's/^[0-9a-f]*  //' dist/SHA256SUMS; echo SHA256SUMS)
[ "$(printf '%s\n' "${files[@]}" | sort)" = "$(find dist -mindepth 1 -printf '%P\n' | sort)" ] || die 'dist/ has files that are not in its SHA256SUMS: make dist'
grep -qx " *AGENT_URL=$place/vmjob-agent-x86_64" dist/startup-script-x86_64.sh || die "dist/ was made for another place than $place: make dist BUCKET=$bucket"

gcloud() { timeout 300 "${GCLOUD:-gcloud}" "$@"; }

type_of() { # FILE
    case $1 in
    *.deb) echo application/vnd.debian.binary-package ;;
    *.cdx.json) echo application/vnd.cyclonedx+json ;;
    *.sh) echo text/x-shellscript ;;
    *.yaml) echo text/yaml ;;
    *.sha256 | *.service | BUILD | SHA256SUMS) echo text/plain ;;
    *) echo application/octet-stream ;;
    esac
}

# "MD5 NAME" of each file of this version that the bucket has.
listing() {
    gcloud storage objects list "$place/**" --format='value[separator=" "](md5_hash,name)' 2>/dev/null | sed "s|^\([^ ]*\) .*/|\1 |" || true
}
wanted() { printf '%s %s\n' "$(openssl dgst -md5 -binary "dist/$1" | base64)" "$1"; } # FILE

# Nothing is sent before it is certain that nothing stands in the way.
there=$(if [ -z "$dry_run" ]; then listing; fi)
todo=()
for file in "${files[@]}"; do
    if grep -qxF "$(wanted "$file")" <<<"$there"; then
        say "$place/$file is there already"
    elif grep -q " $file\$" <<<"$there"; then
        die "$place/$file was released with other bytes: a new version is needed"
    else
        todo+=("$file")
    fi
done

for file in ${todo[@]+"${todo[@]}"}; do
    # Generation 0 is that of an object that does not exist: two publications at once cannot overwrite each other either.
    put=(storage cp --if-generation-match=0 --content-type="$(type_of "$file")" --cache-control='public, max-age=31536000, immutable'
        "dist/$file" "$place/$file")
    if [ -n "$dry_run" ]; then
        say "would run: gcloud ${put[*]@Q}"
    else
        gcloud "${put[@]}" || die "failed to upload $file; what is there already stays, and a next try goes on from there"
    fi
done
[ -z "$dry_run" ] || exit 0

there=$(listing)
for file in "${files[@]}"; do
    grep -qxF "$(wanted "$file")" <<<"$there" || die "$place/$file did not arrive as it is here"
done
say "$place: ${#files[@]} files, ${#todo[@]} of them new"
