#!/bin/bash
# Puts vmjob-agent into this VM and starts it: the metadata attribute `startup-script`, or what `startup-script-url` names.
#
#   agent-url      where the agent is: gs://BUCKET/OBJECT, fetched as the VM's service account, or https://…
#   agent-sha256   its checksum, as `sha256sum vmjob-agent` prints it
#
# These attributes win over the two values below, which `make dist` fills in. Needs bash, curl, coreutils, sed and grep, which
# is what Container-Optimized OS has. It runs at every boot: an agent that is there is not fetched again, and one that runs is
# left alone. If the agent cannot be had, it reports that to `callback-url` itself, so that the workflow does not wait in vain.
set -u

AGENT_URL=
AGENT_SHA256=

STATE_DIR=/var/lib/vmjob
METADATA=http://${GCE_METADATA_HOST:-169.254.169.254}/computeMetadata/v1
METADATA_PATIENCE_S=300
DOWNLOAD_PATIENCE_S=600
DENIED_PATIENCE_S=240 # IAM takes minutes to spread
REPORT_PATIENCE_S=3600
HEARTBEAT_S=60 # far below the `silence` after which a workflow gives a VM up
STARTED_AT=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)

main() {
    local callback failure
    # shellcheck source=/dev/null
    case $(. /etc/os-release && echo "${ID:-}") in
    cos) agent=/var/lib/google/vmjob/vmjob-agent ;; # it can be written to, runs programs, and stays
    *) agent=/usr/bin/vmjob-agent ;;
    esac
    installer=$agent
    give_signs_of_life </dev/null >/dev/null 2>&1 &
    signs_of_life=$!
    trap 'kill $signs_of_life 2>/dev/null' EXIT
    callback=$(attribute callback-url) || [ $? = 1 ] || no_metadata || carry_on || give_up
    failure=$STATE_DIR/startup-failure-$(checksum - <<<"$callback")
    if [ -e "$failure" ] || [ -e "$failure.delivered" ]; then
        # The workflow may know by now that the job was not run, so nothing may run any more.
        say "an earlier boot reported that the agent could not be started: nothing is run ($failure)"
        deliver "$failure" "$callback"
        exit 0
    fi
    if find_agent && { start_agent || is_active; }; then exit 0; fi
    carry_on
    # From here on the report holds: no job may run, nor may a start that was asked for and failed come true later.
    systemctl --quiet disable vmjob-agent.service 2>/dev/null
    systemctl --quiet --no-block stop vmjob-agent.service 2>/dev/null
    write_report "$failure"
    deliver "$failure" "$callback"
    give_up
}

give_up() {
    say "error: $problem"
    say "what to do: $fix"
    exit 1
}

say() { printf 'vmjob: %s\n' "$*" >&2; }

# Notes what went wrong, what a person could do about it, and whether another VM may do better all the same, and fails.
problem() { # WHAT FIX RETRYABLE
    problem=$1 fix=$2 retryable=$3
    return 1
}

checksum() { sha256sum "$1" | cut -d ' ' -f 1; } # FILE

# Sleeps before try number $1: at most 1, 2, 4 … 60 s, and a random part of that.
back_off() { # TRY
    local most=$((1 << ($1 < 7 ? $1 - 1 : 6)))
    sleep "$((RANDOM % (most < 60 ? most : 60))).$((RANDOM % 10))"
}

# --- the metadata server

no_metadata() {
    problem 'the metadata server does not answer' \
        'see whether the VM can reach 169.254.169.254: a firewall in the guest may be in the way' true
}

# Prints a value. Fails with 1 where there is none, with 2 where the server could not be asked.
metadata() { # PATH
    local answer try end=$((SECONDS + METADATA_PATIENCE_S))
    for ((try = 1; ; try++)); do
        answer=$(curl -sS --noproxy '*' --connect-timeout 5 --max-time 20 -H 'Metadata-Flavor: Google' \
            -w '\n%{http_code}' "$METADATA/$1") || answer=
        case ${answer##*$'\n'} in
        200) printf %s "${answer%$'\n'*}" && return ;;
        404) return 1 ;;
        esac
        [ $SECONDS -lt $end ] || return 2
        back_off $try
    done
}

# A value without the spaces and line ends around it, which a file or an editor may have left there.
attribute() { # KEY
    local value
    value=$(metadata "instance/attributes/$1") || return
    value=${value#"${value%%[![:space:]]*}"}
    printf %s "${value%"${value##*[![:space:]]}"}"
}

# Prints a fresh enough token of the VM's service account. The server caches it, so this asks each time. Fails as `metadata` does:
# with 1 where there is no account.
token() {
    local answer
    answer=$(metadata instance/service-accounts/default/token) || return
    sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p' <<<"$answer" | grep . || return 2
}

# A header with the token, in a form for `curl -H @FILE`: it never stands in a command line.
bearer() { printf 'Authorization: Bearer %s\n' "$1"; }

# A value of this VM, or `unknown`: the report's fields are never empty.
about_vm() { # PATH
    local value
    value=$(metadata "$1") || value=unknown
    printf %s "${value##*/}"
}

# Where the VM has guest attributes enabled (where not, the server refuses), they show what happened, too.
guest_attribute() { # KEY FILE
    curl -sS -o /dev/null --noproxy '*' --connect-timeout 5 --max-time 20 -X PUT -H 'Metadata-Flavor: Google' \
        -H 'Content-Type: text/plain' --data-binary "@$2" "$METADATA/instance/guest-attributes/vmjob/$1"
}

# A sign of life a minute while this script is at work, as the agent gives them later: neither a slow download nor a report that
# is not out yet is taken for silence.
give_signs_of_life() {
    local last=$SECONDS
    while sleep 1 && kill -0 $$; do
        [ $((SECONDS - last)) -ge $HEARTBEAT_S ] || continue
        last=$SECONDS
        guest_attribute heartbeat <(printf '%s startup-script' "$(date -u +%Y-%m-%dT%H:%M:%SZ)")
    done
}

# --- the agent

# Sees that the agent that is asked for is here: as $installer, which may not be in its place yet.
find_agent() {
    local url sha
    url=$(attribute agent-url) || [ $? = 1 ] || no_metadata || return
    sha=$(attribute agent-sha256) || [ $? = 1 ] || no_metadata || return
    url=${url:-$AGENT_URL} sha=${sha:-$AGENT_SHA256} sha=${sha,,}
    read -r sha _ <<<"$sha" # the file's name follows, as `sha256sum` prints it
    [[ $sha =~ ^[0-9a-f]{64}$ ]] || problem "the checksum of the agent, agent-sha256, is missing or is none: \"$sha\"" \
        'set the metadata attribute agent-sha256 to what "sha256sum vmjob-agent" prints' false || return
    if [ -x "$agent" ] && [ "$(checksum "$agent")" = "$sha" ]; then return; fi
    [ -n "$url" ] || problem 'the metadata attribute agent-url is missing' \
        'set it to where the agent is: gs://BUCKET/OBJECT or https://…' false || return
    fetch_agent
}

fetch_agent() {
    local new=$agent.new.$$ found old disk='see whether the disk is full or read-only'
    mkdir -p "${agent%/*}" || problem "${agent%/*} cannot be made" "$disk" true || return
    # Two ways in may be here at once, each with a file of its own; what is left of those that were cut short goes.
    for old in "$agent".new.*; do
        [ -e "/proc/${old##*.}" ] || rm -f "$old"
    done
    # shellcheck disable=SC2064 # it is known now
    trap "rm -f '$new'; kill $signs_of_life 2>/dev/null" EXIT
    say "fetching $url"
    download "$new" || return
    found=$(checksum "$new")
    [ "$found" = "$sha" ] || problem "the checksum of $url is $found instead of $sha" \
        'set agent-sha256 to the checksum of this very file; if nobody has changed it on purpose, find out who did' \
        false || return
    chmod 0755 "$new" || problem "$new cannot be made executable" "$disk" true || return
    # It puts itself in its place, and an agent that runs there hands over to it.
    installer=$new
}

# Fetches $url.
download() { # FILE
    local answer status exit said again=false try
    local end=$((SECONDS + DOWNLOAD_PATIENCE_S)) denied_end=$((SECONDS + DENIED_PATIENCE_S))
    for ((try = 1; ; try++)); do
        case $url in
        gs://?*/?*) answer=$(fetch_object "$1") ;;
        https://*) answer=$(fetch "$1" --location --proto-redir =https "$url") ;;
        *) answer=scheme ;;
        esac
        read -r status exit said <<<"$answer"
        case $status in
        200) return 0 ;;
        400 | 404 | 410 | account | scheme) break ;; # these stay as they are
        403) [ $SECONDS -lt $denied_end ] || break ;;
        curl) [ "$exit" != 23 ] || problem "${1%/*} cannot be written to: $said" "$disk" true || return ;;
        esac
        case $status in
        metadata) say 'the metadata server gives no token' ;;
        curl) say "$url: $said" ;;
        *) say "$url: HTTP status $status" ;;
        esac
        [ $SECONDS -lt $end ] || break
        back_off $try
    done
    case $status$exit in
    metadata) no_metadata || return ;;
    403) fix="grant the VM's service account roles/storage.objectViewer on the bucket; the VM needs the scope cloud-platform" ;;
    404) fix='see whether agent-url names an object that is there' ;;
    account) fix='create the VM with a service account, or put the agent behind an https:// URL' ;;
    scheme) fix='set agent-url to gs://BUCKET/OBJECT or https://…' ;;
    curl35 | curl60 | curl77) fix='see whether the VM trusts the certificate of who answers there, and whether its clock is right' ;;
    *) fix='see whether the VM has a way there: Cloud NAT, Private Google Access or an external address' ;;
    esac
    case $status in curl | 408 | 429 | 5??) again=true ;; esac
    case $status in
    curl) status=$said ;;
    account) status='the VM has no service account' ;;
    scheme) status='neither a gs:// nor an https:// URL' ;;
    *) status="HTTP status $status" ;;
    esac
    problem "the agent could not be fetched from $url: $status" "$fix" $again
}

# Fetches a Cloud Storage object as the VM's service account.
fetch_object() { # FILE
    local path=${url#gs://} token
    token=$(token) || { if [ $? = 1 ]; then echo account; else echo metadata; fi; return; }
    fetch "$1" -H @<(bearer "$token") \
        "https://storage.googleapis.com/storage/v1/b/${path%%/*}/o/$(percent_encode "${path#*/}")?alt=media"
}

# Fetches a URL into a file and prints the HTTP status; without an answer in full `curl`, curl's exit status, and what it says.
# A transfer that stalls is given up.
fetch() { # FILE CURL-ARG…
    local file=$1 said exit
    shift
    said=$(curl -sS --globoff --proto =https --connect-timeout 10 --speed-limit 1000 --speed-time 30 --max-time 300 \
        -o "$file" -w '\n%{http_code}' "$@" 2>&1)
    exit=$?
    if [ $exit = 0 ]; then
        echo "${said##*$'\n'}"
    else
        said=$(grep -m 1 '^curl: ' <<<"$said") || said="curl: ($exit)"
        echo "curl $exit $said"
    fi
}

percent_encode() { # TEXT
    local LC_ALL=C i byte
    for ((i = 0; i < ${#1}; i++)); do
        byte=${1:i:1}
        case $byte in
        [a-zA-Z0-9._~-]) printf %s "$byte" ;;
        *) printf '%%%02X' $(($(printf %d "'$byte") & 255)) ;;
        esac
    done
}

# Returns at once, as the job is the unit's affair: a script that stayed would hold up the boot.
start_agent() {
    local output
    output=$("$installer" install --now 2>&1) && return
    case $? in
    126) # it is no program, or one of another architecture
        problem "the agent cannot be executed: $output" \
            "set agent-url to the binary for this machine type, $(uname -m), and to no archive" false
        ;;
    *) problem "$installer install --now failed: $output" 'see the message' true ;;
    esac
}

is_active() { [[ $(systemctl is-active vmjob-agent.service) =~ ^(active|activating|reloading)$ ]]; }

# Without the agent that was asked for: has one that is here the job in hand? Then it is the one to report, and a report of
# ours would be a second one.
is_under_way() {
    [ -x "$agent" ] || return
    [ -e $STATE_DIR/journal.json ] || systemctl --quiet is-enabled vmjob-agent.service 2>/dev/null || is_active
}

# Leaves the job to the agent that is here, if it has one; does not come back then.
carry_on() {
    is_under_way || return
    say "warning: $problem; the agent that is installed carries on"
    installer=$agent
    if is_active || start_agent; then exit 0; fi
    return 1
}

# --- the report that there is no agent

# A text as a JSON string. Anything but printable ASCII is dropped.
json() { # TEXT
    printf '"%s"' "$(LC_ALL=C tr -cd '\t\n -~' <<<"${1:0:2000}" | sed -z 's/\n$//; s/[\\"]/\\&/g; s/\t/\\t/g; s/\n/\\n/g')"
}

# Writes the report to disk before anything is sent: from here on it is the job's one outcome, also after a reboot. Where the
# disk is what is full, it is kept in memory; that it was delivered takes no room, and is noted on disk all the same.
write_report() { # FILE
    write_report_to "$1" && report=$1 && return
    report=/run/${1##*/}
    write_report_to "$report"
}

write_report_to() { # FILE
    local id cause=INVALID_SPEC fault=spec # what the attributes ask for cannot be had
    if [ "$retryable" = true ]; then cause=AGENT_ERROR fault=platform; fi
    id=$(about_vm instance/id)
    mkdir -p "${1%/*}"
    sed -z 's/\n *//g' >"$1.new" <<END && sync "$1.new" && mv -f "$1.new" "$1"
{"version":1,
"job":{"id":"$id","attempt":1,"task_index":0,"task_count":1},
"state":"FAILED","cause":"$cause","exit_code":null,"signal":null,
"message":$(json "the agent could not be started: $problem"),
"evidence":["reported by the startup script; the job was not run"],
"fix":$(json "$fix"),"fault":"$fault","retryable":$retryable,
"image":{"ref":null,"digest":null},
"times":{"agent_started_at":"$STARTED_AT","pull_started_at":null,"started_at":null,"finished_at":null},
"durations_s":{"pull":null,"run":null},
"usage":{"cpu_s":null,"peak_memory_bytes":null,"oom_kills":null,"read_bytes":null,"written_bytes":null},
"logs":{"stdout_bytes":0,"stderr_bytes":0,"stdout_lines":0,"stderr_lines":0,
"head":"","tail":"","errors":[],"omitted_bytes":0,"lost_bytes":0,"uri":null},
"result":null,"uploads":[],"uploads_omitted":0,
"vm":{"name":"$(about_vm instance/name)","id":"$id","zone":"$(about_vm instance/zone)",
"project":"$(about_vm project/project-id)","machine_type":"$(about_vm instance/machine-type)"},
"agent":{"version":"startup-script"}}
END
}

# Gets the report out, and notes that it is. It waits for that here: nothing else can be done in this VM, and of the boot only
# what waits for this script is left. A try that may have reached the endpoint leaves a file .unanswered, also for a next boot.
deliver() { # FAILURE URL
    local file=${report:-$1} try pace status wait_s unanswered='' end=$((SECONDS + REPORT_PATIENCE_S))
    [ ! -e "$1.delivered" ] || return 0
    [ ! -e "$file.unanswered" ] || unanswered=1
    printf 'vmjob-report %s\n' "$(<"$file")"
    guest_attribute report "$file"
    guest_attribute state <(printf EXITED)
    for ((try = 1; SECONDS < end; try++)); do
        pace=$try
        IFS=/ read -r status wait_s < <(post "$file" "$2")
        case $status in
        unanswered) unanswered=1 ;;
        *) [ -n "$unanswered" ] || rm -f "$file.unanswered" ;;
        esac
        case $status in
        2??) break ;;
        401) ;; # the next try's token may be another
        403)
            say 'the report needs the permission workflows.callbacks.send for the service account, and the scope cloud-platform'
            pace=6
            ;;
        404 | 410) say 'the workflow execution is over: nobody waits for the report' && break ;;
        405) say 'the callback endpoint was made for another method: create it with http_callback_method: POST' && break ;;
        400 | 413) break ;;
        429) [ -z "$unanswered" ] || break ;; # the endpoint holds the earlier one
        impossible)
            [ -n "$unanswered" ] || rm -f "$file" # nobody was told, so the next boot may try again
            return
            ;;
        esac
        say "the report is not out yet: $status"
        [ $SECONDS -ge $end ] || sleep $((wait_s < end - SECONDS ? wait_s : end - SECONDS))
        back_off $pace
    done
    : >"$1.delivered" && sync "$1.delivered"
    say "the report: $status"
    guest_attribute state <(printf DELIVERED)
}

# POSTs the report and prints the HTTP status, `unanswered` where the endpoint may have it all the same, and after a slash for
# how many seconds the endpoint wants to be left alone.
post() { # FILE URL
    local token='' answer exit
    if [ -z "$2" ]; then
        say 'there is no callback-url to report to' && echo impossible && return
    elif ! is_url "$2"; then
        say "callback-url is no URL: $2" && echo impossible && return
    elif may_have_token "$2"; then
        token=$(token)
        case $? in
        0) ;;
        1) say 'the VM has no service account, so it cannot report' && echo impossible && return ;;
        *) echo 'no token' && return ;;
        esac
    fi
    : >"$1.unanswered" && sync "$1.unanswered"
    answer=$(curl -sS -D - -o /dev/null --globoff --proto =http,https --connect-timeout 10 --max-time 60 \
        -w '%{http_code} %{size_upload}' -H 'Content-Type: application/json' -H @<([ -z "$token" ] || bearer "$token") \
        --data-binary "@$1" "$2")
    exit=$?
    case $exit/${answer##*$'\n'} in
    */[2-5]??' '*) echo "$(cut -c 1-3 <<<"${answer##*$'\n'}")/$(retry_after_s <<<"$answer")" ;;
    [134]/*) say "callback-url is no URL: $2" && echo impossible ;;
    */*' 0' | */) echo 'no answer' ;; # nothing of the report was sent
    *) echo unanswered ;;
    esac
}

# The seconds of a `Retry-After`, or until its date, by the clock of whoever sent it.
retry_after_s() { # <HEAD
    local head when date seconds
    head=$(tr -d '\r')
    when=$(sed -n 's/^retry-after: *//Ip' <<<"$head")
    case $when in
    *[!0-9]*)
        date=$(sed -n 's/^date: *//Ip' <<<"$head")
        seconds=$(($(date -d "$when" +%s 2>/dev/null || echo 0) - $(date -d "${date:-now}" +%s)))
        ;;
    *) seconds=$((10#0${when:0:9})) ;;
    esac
    echo $((seconds > 0 ? seconds : 0))
}

# Whether a text is an http or https URL of a host that can be: each of its labels has a character. Sets BASH_REMATCH.
is_url() { # TEXT
    [[ $1 != *[[:space:][:cntrl:]]* ]] || return
    [[ ${1,,} =~ ^(https?)://([a-z0-9_-]+(\.[a-z0-9_-]+)*\.?|\[[0-9a-f:]+\])(:[0-9]+)?([/?]|$) ]]
}

# The token is worth as much as the service account. It goes to Google, or to hosts named in VMJOB_CALLBACK_ALLOW; unencrypted
# to this very machine only. To others the report goes without.
may_have_token() { # URL
    local host named
    is_url "$1" || return
    host=${BASH_REMATCH[2]}
    [ "${BASH_REMATCH[1]}" = https ] || [[ $host =~ ^(localhost|127(\.[0-9]+){3}|\[::1\])$ ]] || return
    named=$(sed -n 's/^VMJOB_CALLBACK_ALLOW=//p' /etc/default/vmjob-agent 2>/dev/null | tr -d "\"' ")
    [[ $host == *.googleapis.com || ,${named,,}, == *,"$host",* ]]
}

main
