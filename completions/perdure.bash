# bash completion for perdure

_perdure_provider_keys='style= framing= models= answer= tokens= reasoning= parallel= concurrency= ttft= token_delay= jitter= drift= key= up= down= fault='

_perdure_spec() {
    # after "NAME:PORT," the keys of a provider; after "fault=" its faults, as the program itself lists them
    local word=$1 head last
    case "$word" in
    *,*) head=${word%,*}, last=${word##*,} ;;
    *) return ;;
    esac
    case "$last" in
    fault=*) COMPREPLY=($(compgen -P "${head}fault=" -W "$(_perdure_names Faults)" -- "${last#fault=}")) ;;
    style=*) COMPREPLY=($(compgen -P "${head}style=" -W "$(_perdure_names Styles)" -- "${last#style=}")) ;;
    framing=*) COMPREPLY=($(compgen -P "${head}framing=" -W "$(_perdure_names Framings)" -- "${last#framing=}")) ;;
    *)
        compopt -o nospace
        COMPREPLY=($(compgen -P "$head" -W "$_perdure_provider_keys" -- "$last"))
        ;;
    esac
}

_perdure_names() {
    "${COMP_WORDS[0]}" simulate --reference 2>/dev/null | awk -v want="$1:" '/^[A-Z]/ {on = $0 == want} on && /^  [a-z]/ {print $1}'
}

_perdure_files() {
    compopt -o filenames
    local IFS=$'\n'
    COMPREPLY=($(compgen -d -- "$2") $(compgen -f -X "!*.@($1)" -- "$2"))
}

_perdure() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} line
    local restore
    restore=$(shopt -p extglob)
    shopt -s extglob
    COMPREPLY=()

    # the whole word, with the "=" and ":" at which readline breaks it
    line=${COMP_LINE:0:COMP_POINT}
    line=${line##* }

    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W 'serve check run runs review worker supervise sessions checkpoints simulate docs version help --help --version' -- "$cur"))
        $restore
        return
    fi
    case "$command $prev" in
    "serve --config" | "check --config") _perdure_files 'yaml|yml|json' "$cur" ;;
    "serve --log-level") COMPREPLY=($(compgen -W 'error warn info debug' -- "$cur")) ;;
    "serve --pid-file") COMPREPLY=($(compgen -f -- "$cur")) ;;
    "serve --log-format") COMPREPLY=($(compgen -W 'text json' -- "$cur")) ;;
    "serve --listen") COMPREPLY=($(compgen -W '127.0.0.1:8080' -- "$line")) ;;
    "sessions --url") COMPREPLY=($(compgen -W 'http://127.0.0.1:8080' -- "$line")) ;;
    "sessions --key-env") COMPREPLY=($(compgen -e -- "$cur")) ;;
    "sessions --limit" | "sessions show") ;;
    "checkpoints --url") COMPREPLY=($(compgen -W 'http://127.0.0.1:8080' -- "$line")) ;;
    "checkpoints --key-env") COMPREPLY=($(compgen -e -- "$cur")) ;;
    "checkpoints --state-file" | "checkpoints --database" | "checkpoints --snapshots") COMPREPLY=($(compgen -f -- "$cur")) ;;
    "checkpoints --reason") COMPREPLY=($(compgen -W 'step interval milestone before_risky after_risky manual' -- "$cur")) ;;
    "checkpoints --limit" | "checkpoints --agent" | "checkpoints --task" | "checkpoints --step" | "checkpoints --milestone" | "checkpoints --state" | "checkpoints show" | "checkpoints diff") ;;
    "run --config") _perdure_files 'yaml|yml|json' "$cur" ;;
    "run --url" | "runs --url" | "review --url" | "worker --url" | "supervise --url") COMPREPLY=($(compgen -W 'http://127.0.0.1:8080' -- "$line")) ;;
    "run --key-env" | "runs --key-env" | "review --key-env" | "worker --key-env" | "supervise --key-env") COMPREPLY=($(compgen -e -- "$cur")) ;;
    "run --dir" | "worker --dir" | "supervise --dir") COMPREPLY=($(compgen -d -- "$cur")) ;;
    "run --log") COMPREPLY=($(compgen -f -- "$cur")) ;;
    "worker --kinds") COMPREPLY=($(compgen -W 'llm command agent' -- "$cur")) ;;
    "run --workers" | "run --name" | "run --resume" | "run --lease" | "runs --why" | "runs --limit" | "review --value" | "review --who") ;;
    "worker --database" | "worker --run" | "worker --name" | "worker --lease" | "worker --drain" | "worker --idle") ;;
    "supervise --log-level") COMPREPLY=($(compgen -W 'error warn info debug' -- "$cur")) ;;
    "supervise --stall" | "supervise --check" | "supervise --check-limit" | "supervise --resume-args" | "supervise --restarts" | "supervise --window" | "supervise --alert-command" | "supervise --checkpoint" | "supervise --grace" | "supervise --pause" | "supervise --hang" | "supervise --agent" | "supervise --task" | "supervise --again" | "supervise --client") ;;
    "simulate --script") _perdure_files json "$cur" ;;
    "simulate --seed" | "simulate --control" | "simulate --host") ;;
    *)
        case "$command" in
        serve) COMPREPLY=($(compgen -W '--config --listen --log-level --log-format --pid-file --without-providers --for-run --help' -- "$cur")) ;;
        check)
            case "$cur" in
            -*) COMPREPLY=($(compgen -W '--config --help' -- "$cur")) ;;
            *) _perdure_files 'yaml|yml|json' "$cur" ;;
            esac
            ;;
        run)
            case "$cur" in
            -*) COMPREPLY=($(compgen -W '--workers --url --key-env --config --name --again --check --resume --dir --detach --json --lease --log --help' -- "$cur")) ;;
            *) _perdure_files 'yaml|yml|json' "$cur" ;;
            esac
            ;;
        runs) COMPREPLY=($(compgen -W 'list show events pause resume cancel --why --limit --url --key-env --json --help' -- "$cur")) ;;
        review) COMPREPLY=($(compgen -W 'list show retry accept edit drop --value --who --url --key-env --json --help' -- "$cur")) ;;
        worker) COMPREPLY=($(compgen -W '--url --key-env --database --run --kinds --name --dir --lease --drain --idle --help' -- "$cur")) ;;
        supervise) COMPREPLY=($(compgen -W '--stall --check --check-limit --resume-args --restarts --window --alert-command --checkpoint --grace --pause --hang --dir --agent --task --again --client --no-gateway --no-terminal --url --key-env --log-level --help' -- "$cur")) ;;
        sessions) COMPREPLY=($(compgen -W 'list show --url --key-env --limit --json --help' -- "$cur")) ;;
        checkpoints) COMPREPLY=($(compgen -W 'list show restore resume diff create prune --agent --limit --task --step --milestone --reason --state --state-file --dry --json --url --key-env --database --snapshots --help' -- "$cur")) ;;
        docs) COMPREPLY=($(compgen -W 'settings metrics failures translation --help' -- "$cur")) ;;
        simulate)
            case "$line" in
            -*) COMPREPLY=($(compgen -W '--provider --script --seed --host --control --tokens --ttft --token-delay --jitter --style --framing --verbose --reference --help' -- "$cur")) ;;
            *) _perdure_spec "$line" ;;
            esac
            ;;
        esac
        ;;
    esac

    # readline replaces only what stands behind the last "=" or ":"
    local i cut=${line%"${line##*[=:]}"}
    if [ -n "$cut" ] && [[ $COMP_WORDBREAKS == *[=:]* ]]; then
        for i in "${!COMPREPLY[@]}"; do COMPREPLY[i]=${COMPREPLY[i]#"$cut"}; done
    fi
    $restore
}
complete -F _perdure perdure
