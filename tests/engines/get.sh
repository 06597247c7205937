#!/usr/bin/env bash
# Other engines than the machine's own, each unpacked below DIR/engines and not installed:   tests/engines/get.sh DIR [ENGINE…]
# They are what Debian's suites have: a machine of bookworm runs them with its own runc. Quick when all is there.
set -euo pipefail
third_party=$(realpath -m "${1:?}")
shift
[ $# -gt 0 ] || set -- docker-26 docker-28 podman-4
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Where this machine has its own packages from has the other suites too.
# shellcheck disable=SC2016 # apt's own placeholder
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' 2>/dev/null | sed -n 1p || true)

die() { printf 'engines: error: %s\n' "$*" >&2; exit 1; }

# Unpacks packages of a suite, by package lists of its own.
unpack() { # SUITE DIR PACKAGE…
    local suite=$1 dir=$2 apt
    shift 2
    apt=$(mktemp -d)
    mkdir -p "$apt"/{lists/partial,archives/partial,debs}
    printf 'deb [signed-by=%s] %s %s main\n' $keyring "$mirror" "$suite" >"$apt/sources.list"
    local options=(-qq -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State::Lists="$apt/lists"
        -o Dir::Cache="$apt" -o Acquire::Languages=none -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root)
    timeout 300 apt-get "${options[@]}" update
    (cd "$apt/debs" && timeout 600 apt-get "${options[@]}" download "$@")
    for deb in "$apt"/debs/*.deb; do dpkg-deb -x "$deb" "$dir"; done
    rm -rf "$apt"
}

docker() { # DIR SUITE PACKAGE-OF-TINI
    unpack "$2" "$1" docker.io docker-cli containerd "$3"
    # It is mounted into containers, whose C library may be another, or none.
    ln -s ../usr/bin/tini-static "$1/bin/docker-init"
    local program
    for program in "$1"/usr/{bin,sbin}/*; do ln -sf "${program/#"$1"/..}" "$1/bin/"; done
}

podman() { # DIR
    unpack bookworm "$1" podman conmon netavark aardvark-dns golang-github-containers-common libgpgme11 libassuan0 libsubid4
    mkdir -p "$1/home/.config/containers"
    cp "$1/etc/containers/policy.json" "$1/home/.config/containers/"
    printf '%s\n' 'unqualified-search-registries = ["docker.io"]' '[[registry]]' 'location = "127.0.0.1"' 'insecure = true' \
        >"$1/home/.config/containers/registries.conf"
    printf '%s\n' '[engine]' 'runtime = "runc"' 'cgroup_manager = "cgroupfs"' 'events_logger = "file"' "conmon_path = [\"$1/usr/bin/conmon\"]" \
        "helper_binaries_dir = [\"$1/usr/lib/podman\"]" '[network]' 'network_backend = "netavark"' >"$1/home/containers.conf"
    printf '#!/bin/sh\nHOME=%s CONTAINERS_CONF=%s exec %s "$@"\n' "$1/home" "$1/home/containers.conf" "$1/usr/bin/podman" >"$1/bin/podman"
    chmod +x "$1/bin/podman"
}

if [ -z "$mirror" ] || [ ! -e "$keyring" ]; then die 'they come from Debian, and this is none, or apt has no lists (apt-get update)'; fi
for engine; do
    dir=$third_party/engines/$engine
    [ ! -e "$dir/.done" ] || continue
    rm -rf "$dir"
    mkdir -p "$dir/bin"
    case $engine in
    docker-26) docker "$dir" trixie tini ;;
    docker-28) docker "$dir" sid tini-static ;;
    podman-4) podman "$dir" ;;
    *) die "no engine \"$engine\": docker-26, docker-28, podman-4" ;;
    esac
    touch "$dir/.done"
done
