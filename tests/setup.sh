#!/usr/bin/env bash
# Gets a machine ready to build and test vmjob, for `make` and CI alike. Safe to run again, quick when all is there.
#   tests/setup.sh [build] [docker] [parts] [lint] [fuzz] [vm] [shell-way] [qemu] [release] [packaging]     (default: build docker parts)
# Root on Debian or Ubuntu has what is missing installed; anybody else is told what to do. A part that only some tests
# need is skipped in plain sight; with CI=true or VMJOB_TESTS_STRICT=1 its absence is an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
third_party=$PWD/target/third-party
musl=x86_64-unknown-linux-musl

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
may_install() { [ "$(id -u)" = 0 ] && has apt-get; }
strict() { [ "${CI:-}" = true ] || [ "${VMJOB_TESTS_STRICT:-}" = 1 ]; }
missing() { if strict; then die "$*"; fi; say "skipped: $*"; }

# Runs an apt command; when it fails, once more with fresh package lists (none yet, or gone stale).
with_lists() {
    local log
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        if [ "$(id -u)" = 0 ]; then apt-get update -qq >>"$log" 2>&1 || true; fi
        if ! "$@" >>"$log" 2>&1; then tail -n 15 "$log" >&2; rm -f "$log"; return 1; fi
    fi
    rm -f "$log"
}

# Installs packages without letting a service of theirs start.
packages() {
    say "installing $*"
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod +x $policy
    fi
    DEBIAN_FRONTEND=noninteractive with_lists apt-get install -y -qq --no-install-recommends --no-upgrade -o DPkg::Lock::Timeout=300 "$@" \
        || die "apt-get could not install $*"
}

# Puts one file of a Debian package into target/third-party, without installing the package; a tool or a library.
fetch() { # PACKAGE PATH NAME
    local dir
    dir=$(mktemp -d)
    if (cd "$dir" && with_lists apt-get download -qq -o APT::Sandbox::User=root "$1" && dpkg-deb -x ./*.deb .); then
        mkdir -p "$third_party"
        mv "$dir/$2" "$third_party/$3"
        say "fetched $3 from the package $1"
    fi
    rm -rf "$dir"
    [ -s "$third_party/$3" ]
}

need_build() {
    has cargo || die 'cargo is missing: install Rust from https://rustup.rs, and have ~/.cargo/bin on the PATH'
    if ! { has gcc && has make && has musl-gcc; }; then
        may_install || die 'gcc, make and musl-gcc are needed: sudo apt-get install gcc libc6-dev make musl-tools'
        packages gcc libc6-dev make musl-tools
    fi
    if ! [ -d "$(rustc --print target-libdir --target $musl)" ]; then
        has rustup || die "this Rust cannot build for $musl, and there is no rustup to add it: https://rustup.rs"
        say "adding the Rust target $musl"
        rustup --quiet target add $musl || die "rustup target add $musl failed: is the network there?"
    fi
    say "Rust: $(rustc --version), target $musl, $(musl-gcc --version | head -n 1)"
}

need_docker() {
    local version
    if version=$(timeout 20 docker version --format '{{.Server.Version}}' 2>/dev/null); then
        say "Docker: an engine answers, version $version"
    elif ! unshare --net --mount --pid --fork --mount-proc true 2>/dev/null; then
        missing 'Docker: no engine answers, and only root (with the right to make namespaces) can start a private one.' \
            'Start Docker, set DOCKER_HOST, or run this as root'
        return
    else
        if ! { has dockerd && has docker && has iptables; }; then
            if ! may_install; then missing 'Docker: install dockerd, docker and iptables'; return; fi
            local fresh=; has dockerd || fresh=1
            packages docker.io iptables
            if [ -n "$fresh" ] && [ -d /run/systemd/system ]; then
                systemctl disable --quiet docker.socket docker.service containerd.service || true
            fi
        fi
        say "Docker: $(dockerd --version), started privately for each command"
    fi
    need_busybox
}

# The one image of the tests, as a tar for `docker import`: nothing is pulled.
need_busybox() {
    local tar=$third_party/busybox.tar root bin=$third_party/busybox
    if ! [ -s "$tar" ]; then
        mkdir -p "$third_party"
        if has busybox && ! ldd "$(command -v busybox)" >/dev/null 2>&1; then
            cp -L "$(command -v busybox)" "$bin"
        else
            fetch busybox-static bin/busybox busybox || { missing 'the test image: no static busybox (apt-get install busybox-static)'; return; }
        fi
        root=$(mktemp -d)
        mkdir -p "$root"/{bin,dev,etc,home/job,proc,sys,tmp,usr}
        ln -s ../bin "$root/usr/bin"
        cp "$bin" "$root/bin/busybox"
        "$bin" --list | grep -vx busybox | while read -r applet; do ln -s busybox "$root/bin/$applet"; done
        printf 'root:x:0:0::/:/bin/sh\njob:x:1000:1000::/home/job:/bin/sh\n' >"$root/etc/passwd"
        printf 'root:x:0:\njob:x:1000:\n' >"$root/etc/group"
        chmod 755 "$root"
        chmod 1777 "$root/tmp"
        tar -C "$root" --owner=0 --group=0 --numeric-owner -cf "$tar.new" .
        mv "$tar.new" "$tar"
        rm -rf "$root"
    fi
    say "test image: $("$bin" | head -n 1 | cut -d' ' -f1-2), static"
}

# Software of others that tests run against; each test that misses its own is skipped and says so.
need_parts() {
    if ! { [ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import ensurepip' 2>/dev/null && has ip && has sysctl; }; then
        if may_install; then
            packages python3 python3-venv iproute2 procps
        else
            missing 'parts: python3 with venv, ip and sysctl are needed: sudo apt-get install python3-venv iproute2 procps'
        fi
    fi
    if has docker-registry || [ -x "$third_party/docker-registry" ] || fetch docker-registry usr/bin/docker-registry docker-registry; then
        say 'registry: docker-registry is there'
    else
        missing 'registry: no docker-registry (Debian package of that name)'
    fi
    local library=libfaketimeMT.so.1
    if [ -s "$third_party/$library" ] || fetch libfaketime "usr/lib/$(gcc -print-multiarch)/faketime/$library" $library; then
        say "clock: $library is there"
    else
        missing "clock: no $library (Debian package libfaketime)"
    fi
    if [ -x tests/fakecloud/third-party.sh ]; then
        tests/fakecloud/third-party.sh "$third_party" || missing 'third parties: tests/fakecloud/third-party.sh failed'
    fi
    tests/packaging/parts.sh "$third_party" || missing 'Cloud Storage: tests/packaging/parts.sh failed'
    tests/workflows/third-party.sh "$third_party" || missing 'workflows: tests/workflows/third-party.sh failed'
}

need_lint() {
    if ! has shellcheck; then
        may_install || die 'shellcheck is missing: sudo apt-get install shellcheck'
        packages shellcheck
    fi
    if ! has systemd-analyze; then
        may_install || die 'systemd-analyze is missing: sudo apt-get install systemd'
        packages systemd
    fi
    for component in clippy fmt; do
        cargo $component --version >/dev/null 2>&1 || rustup --quiet component add ${component/#fmt/rustfmt} \
            || die "cargo $component is missing, and rustup could not add it"
    done
    say "lint: $(cargo clippy --version), shellcheck $(shellcheck --version | sed -n 's/^version: //p')"
}

# What `make fuzz` needs: a nightly compiler, which can count what a run has covered, and cargo-fuzz.
need_fuzz() {
    local version=0.13.2 root=$third_party/cargo-fuzz
    has g++ || { may_install || die 'g++ is missing: sudo apt-get install g++'; packages g++; }
    if ! rustup toolchain list 2>/dev/null | grep -q ^nightly; then
        rustup --quiet toolchain install nightly --profile minimal || die 'there is no nightly Rust: rustup toolchain install nightly'
    fi
    if ! [ -x "$root/bin/cargo-fuzz" ]; then
        say "compiling cargo-fuzz $version"
        CARGO_PROFILE_RELEASE_OPT_LEVEL=0 timeout 900 cargo install --quiet --locked "cargo-fuzz@$version" --root "$root" --target-dir "$root/target" \
            || die 'cargo-fuzz could not be installed'
        rm -rf "$root/target"
    fi
    say "fuzz: $(rustc +nightly --version), $("$root/bin/cargo-fuzz" --version)"
}

# What machines are booted from, for `make test-vm`.
need_vm() {
    local fresh=()
    has google_metadata_script_runner || fresh+=(google-guest-agent google-startup-scripts google-shutdown-scripts)
    has cloud-init || fresh+=(cloud-init-local cloud-init cloud-config cloud-final)
    if [ ${#fresh[@]} -gt 0 ] || ! { has systemd-nspawn && has dockerd && has ip && has openssl && has curl; }; then
        if ! may_install; then missing 'VM: systemd-container, google-guest-agent, cloud-init and docker.io are needed'; return; fi
        packages systemd-container google-guest-agent cloud-init docker.io iptables iproute2 procps openssl curl dbus
        # They are for the machines in the tests, not for this one.
        [ ${#fresh[@]} = 0 ] || systemctl disable --quiet "${fresh[@]/%/.service}" || true
    fi
    packaging/release/tools.sh "$third_party" nfpm || missing 'VM: no nFPM to make the package with'
    say "VM: $(systemd-nspawn --version | head -n 1)"
}

# What a shell script that runs a job has to install first: jq's packages, for `make bench-vm` to compare with.
need_shell_way() {
    local dir=$third_party/shell-way
    if ! compgen -G "$dir/jq_*.deb" >/dev/null; then
        mkdir -p "$dir"
        (cd "$dir" && with_lists apt-get download -qq -o APT::Sandbox::User=root jq libjq1 libonig5) || missing 'shell way: no packages of jq'
    fi
    say 'shell way: the packages of jq are there'
}

# What machines with a kernel of their own are booted from, for `make test-qemu`.
need_qemu() {
    if ! { has qemu-system-x86_64 && has mmdebstrap && has ip && has openssl; }; then
        if ! may_install; then missing 'QEMU: qemu-system-x86, mmdebstrap, iproute2 and openssl are needed'; return; fi
        packages qemu-system-x86 mmdebstrap e2fsprogs iproute2 openssl
    fi
    if [ "$(id -u)" = 0 ]; then
        say 'QEMU: making the disk, where there is none or an old one'
        tests/vm/qemu-root.sh "$third_party/qemu" || missing 'QEMU: no disk to boot from'
    else
        missing 'QEMU: its disk takes root'
    fi
    say "QEMU: $(qemu-system-x86_64 --version | head -n 1)"
}

# What `make dist` needs besides: the other architecture, the makers of packages and of bills of materials.
need_release() {
    if ! has aarch64-linux-gnu-gcc; then
        may_install || die 'aarch64-linux-gnu-gcc is missing: sudo apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross'
        packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    fi
    rustup --quiet target add aarch64-unknown-linux-musl || die 'rustup target add aarch64-unknown-linux-musl failed'
    packaging/release/tools.sh "$third_party"
}

# What takes the packages and images, for `make test-packaging`.
need_packaging() {
    if may_install && ! { has mmdebstrap && has dpkg-scanpackages && has lintian && has packer && has qemu-aarch64-static \
        && has systemd-nspawn && has mandoc && has zsh && has fish; }; then
        packages mmdebstrap dpkg-dev lintian packer qemu-user-static systemd-container mandoc zsh fish binutils openssl
    fi
    tests/packaging/parts.sh "$third_party" || missing 'packaging: tests/packaging/parts.sh failed'
    if [ "$(id -u)" = 0 ]; then
        tests/packaging/root.sh "$third_party/debian-root.tar" || missing 'packaging: no Debian root'
    else
        missing 'packaging: a Debian root takes root'
    fi
}

[ $# -gt 0 ] || set -- build docker parts
for part; do
    case $part in
    build | docker | parts | lint | fuzz | vm | shell-way | qemu | release | packaging) "need_${part//-/_}" ;;
    *) die "no part \"$part\": build, docker, parts, lint, fuzz, vm, shell-way, qemu, release, packaging" ;;
    esac
done
