# bash completion for vmjob-agent
_vmjob_agent() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    case $previous in
    --state-dir | --prefix) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    --log-format) mapfile -t COMPREPLY < <(compgen -W 'text json' -- "$word"); return ;;
    --metadata-host | --docker-host | --callback-allow | --compute-endpoint | --secretmanager-endpoint | --storage-endpoint | --*-patience) return ;;
    esac
    local options='--metadata-host --docker-host --state-dir --callback-allow --compute-endpoint --secretmanager-endpoint --storage-endpoint
        --log-format --engine-patience --pull-patience --metadata-patience --gpu-patience --storage-patience --help --version -h -V' command=
    for command in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $command in
        check) [[ $word == -* ]] || { mapfile -t COMPREPLY < <(compgen -f -- "$word"); return; } ;;
        install) options+=' --now --prefix' ;;
        run | doctor | status) ;;
        *) continue ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
        return
    done
    mapfile -t COMPREPLY < <(compgen -W "run check install doctor status $options" -- "$word")
} && complete -F _vmjob_agent vmjob-agent
