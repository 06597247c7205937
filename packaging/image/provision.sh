#!/usr/bin/env bash
# Makes a Debian machine into the image of a job VM: the agent and its unit, if asked an engine and container images.
#   provision.sh [--docker] [--images LIST] AGENT
#   AGENT           vmjob-agent_*.deb, or the binary
#   --docker        install Debian's docker.io, where no Docker is
#   --images LIST   a file with one image a line, to be pulled, or the path of a tar to be loaded (relative to LIST); # is a comment
# Run as root, on the machine itself (Packer does) or in a chroot, where --images cannot be had. The agent is enabled and not
# started: the first VM made of the image is the first to run a job. Nothing of this machine is left in the image.
set -euo pipefail
say() { printf 'provision: %s\n' "$*"; }
die() { printf 'provision: error: %s\n' "$*" >&2; exit 1; }

docker='' images='' agent=''
while [ $# -gt 0 ]; do
    case $1 in
    --docker) docker=1 ;;
    --images) images=$(realpath -- "${2:?--images needs a file}"); shift ;;
    -*) die "unknown option $1" ;;
    *) [ -z "$agent" ] || die "unexpected argument $1"; agent=$(realpath -- "$1") ;;
    esac
    shift
done
[ -f "$agent" ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2; }
[ -z "$images" ] || [ -f "$images" ] || die "there is no $images"
scratch=$(mktemp -d)
policy=''
trap 'rm -rf "$scratch" $policy' EXIT
case $agent in
*.deb) ;;
*)
    # As `gcloud storage cp` leaves it, it may not be executed. Better known now than when an engine is installed.
    install -m 0755 -- "$agent" "$scratch/vmjob-agent"
    agent=$scratch/vmjob-agent
    "$agent" --version >/dev/null || die "the agent cannot be executed: is it the binary for $(uname -m)?"
    ;;
esac

# Of what is installed nothing may start: least of all the agent, on a machine that has metadata but no job.
[ ! -e /usr/sbin/policy-rc.d ] || die '/usr/sbin/policy-rc.d is there already'
policy=/usr/sbin/policy-rc.d
printf '#!/bin/sh\nexit 101\n' >$policy
chmod 0755 $policy

packages() {
    DEBIAN_FRONTEND=noninteractive timeout 900 apt-get install -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Acquire::Retries=5 -o Dpkg::Use-Pty=0 "$@" >/dev/null
}

if [ -n "$docker" ] && ! command -v dockerd >/dev/null; then
    say 'installing Docker'
    timeout 300 apt-get update -qq -o Acquire::Retries=5
    packages docker.io
fi
# From Debian 13 on the command line, which preloading takes, is a package of its own.
if [ -n "$images" ] && ! command -v docker >/dev/null && [ -n "$(apt-cache search --names-only '^docker-cli$')" ]; then
    packages docker-cli
fi

case $agent in
*.deb) packages "$agent" ;;
*)
    # On a machine without systemd (a chroot) it writes the same, and the unit starts with the first boot.
    "$agent" install
    ;;
esac
systemctl is-enabled --quiet vmjob-agent.service || die 'the unit of the agent is not enabled'
say "installed $(/usr/bin/vmjob-agent --version)"

pull() { # IMAGE
    # Google's registries take the token of this machine's service account.
    case ${1%%/*} in
    *.pkg.dev | gcr.io | *.gcr.io)
        timeout 60 curl -fsS --retry 5 -H 'Metadata-Flavor: Google' \
            "http://${GCE_METADATA_HOST:-169.254.169.254}/computeMetadata/v1/instance/service-accounts/default/token" \
            | sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p' \
            | timeout 60 docker login --username oauth2accesstoken --password-stdin "https://${1%%/*}" >/dev/null 2>&1 \
            || die "no login to ${1%%/*}: has this machine a service account that may read there?"
        ;;
    esac
    for delay in 5 15 30 0; do
        if timeout 1800 docker pull --quiet "$1"; then return; fi
        sleep $delay
    done
    die "failed to pull $1"
}

if [ -n "$images" ]; then
    [ -d /run/systemd/system ] || die '--images needs a running system'
    systemctl start docker.service
    # Credentials stay out of the image.
    export DOCKER_CONFIG=$scratch/docker
    cd "$(dirname "$images")"
    while read -r image || [ -n "$image" ]; do # the last line may lack its end
        image=${image%%[[:space:]]#*}
        image=${image%"${image##*[![:space:]]}"}
        case $image in
        '' | '#'*) continue ;;
        *.tar | *.tar.gz | *.tgz) say "loading $image"; timeout 1800 docker load --quiet --input "$image" ;;
        *) say "pulling $image"; pull "$image" ;;
        esac
    done <"$images"
    systemctl stop docker.service docker.socket containerd.service
fi

# The next machine is to make its own: identity, random seed, logs, the journal of the agent.
say 'cleaning up'
apt-get clean
# The journal goes on in memory, or it would come back as the machine is shut down.
if [ -d /run/systemd/system ]; then timeout 60 journalctl --relinquish-var; fi
rm -rf /var/lib/apt/lists/* /var/lib/vmjob /run/vmjob /var/log/journal/* /etc/docker/key.json /var/lib/systemd/random-seed
find /var/log -type f -exec truncate -s 0 {} +
: >/etc/machine-id
[ ! -f /var/lib/dbus/machine-id ] || [ -L /var/lib/dbus/machine-id ] || rm /var/lib/dbus/machine-id
sync
say 'done'
