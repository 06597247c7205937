#!/usr/bin/env bash
# Control groups of a machine's own, for the scripts that boot one with systemd-nspawn: two machines at once, or one and this
# machine's own init, are not to meet in `/system.slice`. To be sourced.

# The mounted hierarchies: where, which controllers (none: the unified one), and the group we are in.
hierarchies() {
    local controllers path dir
    while IFS=: read -r _ controllers path; do
        dir=/sys/fs/cgroup/${controllers#name=}
        if [ -z "$controllers" ] && [ -d /sys/fs/cgroup/unified ]; then dir=/sys/fs/cgroup/unified; fi
        if [ -d "$dir" ]; then printf '%s:%s:%s\n' "${dir%/}" "$controllers" "${path%/}"; fi
    done </proc/self/cgroup
}

# Makes a group in each hierarchy and moves this process there.
enter_cgroups() { # NAME
    local group file
    mapfile -t groups < <(hierarchies | sed "s|:.*:\(.*\)|\1/$1|")
    for group in "${groups[@]}"; do
        mkdir "$group"
        for file in cpuset.cpus cpuset.mems; do
            # In a new one of the old kind these are empty, and nothing can be moved in.
            if [ -e "${group%/*}/cgroup.clone_children" ] && [ -e "$group/$file" ]; then cat "${group%/*}/$file" >"$group/$file"; fi
        done
        echo $$ >"$group/cgroup.procs"
    done
}

# Moves it back and removes them.
leave_cgroups() {
    local group
    for group in "${groups[@]}"; do
        echo $$ >"${group%/*}/cgroup.procs"
        for _ in {1..100}; do # the last processes may still be dying
            if find "$group" -depth -type d -delete 2>/dev/null; then break; fi
            sleep 0.1
        done
    done
}

# In new namespaces: mounts the hierarchies anew, as those mounted outside show the outer groups.
remount_cgroups() {
    local place controllers
    while IFS=: read -r place controllers _; do
        umount "$place"
        if [ -z "$controllers" ]; then
            mount -t cgroup2 cgroup2 "$place"
        else
            mount -t cgroup -o "${controllers/#name=/none,name=}" cgroup "$place"
        fi
    done < <(hierarchies)
}
