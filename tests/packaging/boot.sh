#!/usr/bin/env bash
# Boots the Debian root ROOT from its own init, until it is powered off or this is ended:   tests/packaging/boot.sh ROOT
# In namespaces and control groups of its own: there is no network but loopback, and nothing outlives this. Needs root.
set -euo pipefail

# The mounted hierarchies of control groups: where, which controllers (none: the unified one), and the group we are in.
hierarchies() {
    local controllers path dir
    while IFS=: read -r _ controllers path; do
        dir=/sys/fs/cgroup/${controllers#name=}
        if [ -z "$controllers" ] && [ -d /sys/fs/cgroup/unified ]; then dir=/sys/fs/cgroup/unified; fi
        if [ -d "$dir" ]; then printf '%s:%s:%s\n' "${dir%/}" "$controllers" "${path%/}"; fi
    done </proc/self/cgroup
}

# The groups of the machine, so that two at once, or one and this machine's own init, do not meet in /system.slice.
enter() {
    local file
    for group in "${groups[@]}"; do
        mkdir "$group"
        for file in cpuset.cpus cpuset.mems; do
            # In a new group of the old kind these are empty, and nothing can be moved in.
            if [ -e "${group%/*}/cgroup.clone_children" ] && [ -e "$group/$file" ]; then cat "${group%/*}/$file" >"$group/$file"; fi
        done
        echo $$ >"$group/cgroup.procs"
    done
}

leave() {
    for group in "${groups[@]}"; do
        echo $$ >"${group%/*}/cgroup.procs"
        for _ in {1..100}; do # the last processes may still be dying
            if find "$group" -depth -type d -delete 2>/dev/null; then break; fi
            sleep 0.1
        done
    done
}

outside() { # ROOT
    local child
    mapfile -t groups < <(hierarchies | sed "s|:.*:\(.*\)|\1/vmjob-packaging-$$|")
    enter
    setpriv --pdeathsig KILL unshare --net --mount --pid --cgroup --fork --kill-child --mount-proc "$0" --inside "$1" &
    child=$!
    # unshare(1) ignores all but this.
    trap 'kill -KILL $child' INT TERM HUP
    while kill -0 $child 2>/dev/null; do wait $child || true; done
    leave
}

inside() { # ROOT
    local place controllers
    # Mounted anew, the hierarchies show the groups of the machine as all there are.
    while IFS=: read -r place controllers _; do
        umount "$place"
        if [ -z "$controllers" ]; then
            mount -t cgroup2 cgroup2 "$place"
        else
            mount -t cgroup -o "${controllers/#name=/none,name=}" cgroup "$place"
        fi
    done < <(hierarchies)
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
