#!/usr/bin/env bash
# Makes dist/, all that a release consists of, for x86_64 and aarch64:   packaging/release/dist.sh [gs://BUCKET]
# With a bucket (where `publish.sh` will put it) the startup scripts and the cloud-init files name the place and the
# checksum of the binary, so that nothing is left to fill in; without, the place is still to be filled in.
# The same commit gives the same bytes: dist/BUILD says of which commit, and made with what.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
die() { printf 'dist: error: %s\n' "$*" >&2; exit 1; }

version=$(packaging/release/version.sh)
base=${1:+${1%/}/vmjob/$version}
case $base in '' | gs://*) ;; *) die "$1 is no bucket: gs://BUCKET" ;; esac
target_dir=${CARGO_TARGET_DIR:-target}
tools=$PWD/target/third-party
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export NFPM=$tools/nfpm/bin/nfpm CARGO_CYCLONEDX=$tools/cargo-cyclonedx/bin/cargo-cyclonedx

packaging/release/tools.sh "$tools"
for arch in x86_64 aarch64; do
    packaging/release/cargo.sh $arch-unknown-linux-musl build --release -p vmjob-agent
done

# Made beside it and moved when whole: there is no half a dist/.
new=target/dist.new
rm -rf $new
mkdir -p $new

# The startup script, with the agent's URL and checksum filled in.
fill_script() { # ARCH FILE
    local sha256 url=${base:+$base/vmjob-agent-$1} line
    sha256=$(cut -d' ' -f1 "$new/vmjob-agent-$1.sha256")
    sed -e "s|^AGENT_URL=.*|AGENT_URL=$url|" -e "s|^AGENT_SHA256=.*|AGENT_SHA256=$sha256|" packaging/startup/startup-script.sh >"$2"
    for line in "AGENT_URL=$url" "AGENT_SHA256=$sha256"; do
        [ "$(grep -cx "$line" "$2")" = 1 ] || die "the startup script has not one line for $line"
    done
    chmod 0755 "$2"
}

# User-data with the script in it, at the line that says so and as far in.
fill_user_data() { # FILE SCRIPT
    local indent
    indent=$(sed -n 's/^\( *\)STARTUP-SCRIPT$/\1/p' "$1")
    [ -n "$indent" ] || die "$1 has no line STARTUP-SCRIPT"
    sed "s/^./$indent&/" "$2" | sed -e '/^ *STARTUP-SCRIPT$/{r /dev/stdin' -e 'd}' "$1"
}

for arch in x86_64 aarch64; do
    case $arch in x86_64) debian=amd64 ;; aarch64) debian=arm64 ;; esac
    install -m 0755 "$target_dir/$arch-unknown-linux-musl/release/vmjob-agent" "$new/vmjob-agent-$arch"
    (cd $new && sha256sum "vmjob-agent-$arch" >"vmjob-agent-$arch.sha256")
    packaging/deb/build.sh "$debian" "$new/vmjob-agent-$arch" "$new" >/dev/null
    packaging/release/sbom.sh $arch-unknown-linux-musl >"$new/vmjob-agent-$arch.cdx.json"
    fill_script $arch "$new/startup-script-$arch.sh"
    for file in cloud-init/*.yaml; do
        fill_user_data "$file" "$new/startup-script-$arch.sh" >"$new/$(basename "$file" .yaml)-$arch.yaml"
    done
done
cp packaging/systemd/vmjob-agent.service $new/
cat >$new/BUILD <<END
version $version
commit $(git rev-parse HEAD)$([ -z "$(git status --porcelain)" ] || echo ' with changes')
$(rustc --version)
$(${CC_x86_64_unknown_linux_musl:-musl-gcc} --version | head -n 1)
$(${CC_aarch64_unknown_linux_musl:-aarch64-linux-gnu-gcc} --version | head -n 1)
END
(cd $new && sha256sum -- * >../dist.sums && mv ../dist.sums SHA256SUMS)
rm -rf dist
mv $new dist
ls -l dist
