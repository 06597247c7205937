#!/usr/bin/env bash
# Boots the Debian root ROOT from its own init, until it is powered off or this is ended:   tests/packaging/boot.sh ROOT
# In namespaces and control groups of its own: there is no network but loopback, and nothing outlives this. Needs root.
set -euo pipefail

# shellcheck source=tests/cgroups.sh
. "${0%/*}/../cgroups.sh"

outside() { # ROOT
    local child
    enter_cgroups "vmjob-packaging-$$"
    setpriv --pdeathsig KILL unshare --net --mount --pid --cgroup --fork --kill-child --mount-proc "$0" --inside "$1" &
    child=$!
    # unshare(1) ignores all but this.
    trap 'kill -KILL $child' INT TERM HUP
    while kill -0 $child 2>/dev/null; do wait $child || true; done
    leave_cgroups
}

inside() { # ROOT
    remount_cgroups
    ip link set lo up
    echo 1 >/proc/sys/net/ipv4/ip_forward # Docker wants it, and will see /proc/sys read-only
    if grep -q '^[^ ]* [^ ]* cgroup ' /proc/self/mounts; then
        # An init of systemd-nspawn has the groups of the old kind read-only, where the engine makes its own.
        mkdir -p "$1/etc/systemd/system/docker.service.d"
        # shellcheck disable=SC2016 # it is for the shell inside
        printf '[Service]\nExecStartPre=-/bin/sh -c "for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do mount -o remount,bind,rw $$dir; done"\n' \
            >"$1/etc/systemd/system/docker.service.d/cgroup-v1.conf"
    fi
    # add_key, keyctl: or "unable to join session keyring".
    exec systemd-nspawn --quiet --directory="$1" --register=no --keep-unit --boot --resolv-conf=off --timezone=off \
        --link-journal=no --capability=all --system-call-filter='add_key keyctl bpf' </dev/null
}

case ${1:-} in
'') sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2 ;;
--inside) inside "$2" ;;
*) outside "$1" ;;
esac
