# bash completion for kmq

# Lines that begin so; none of them is ever evaluated.
_kmq_lines() {
    local line
    while IFS= read -r line; do
        [[ -n $line && $line == "$2"* ]] && COMPREPLY+=("$line")
    done <<<"$1"
}

_kmq() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb= at
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${COMP_WORDS[at]} in
            -c | --config) ((at++)) ;;
            -*) ;;
            *) verb=${COMP_WORDS[at]}; break ;;
        esac
    done
    COMPREPLY=()
    case "$verb $before" in
        ' -c' | ' --config') mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        'mailq --queue') _kmq_lines "$(kmq --json queues 2>/dev/null | sed -n 's/.*"NextHopDomain":"\([^"]*\)".*/\1/p')" "$word"; return ;;
        'mailq --filter') true; return ;;
        'mailq --include') true; return ;;
        'mailq --exclude') true; return ;;
        'mailq --sort') true; return ;;
        'mailq --limit') true; return ;;
        'mailq --bookmark') true; return ;;
        'mailq --at') true; return ;;
        'queues --filter') true; return ;;
        'queues --include') true; return ;;
        'queues --exclude') true; return ;;
        'queues --sort') true; return ;;
        'queues --limit') true; return ;;
        'queues --bookmark') true; return ;;
        'track --filter') true; return ;;
        'track --since') true; return ;;
        'track --until') true; return ;;
        'track --limit') true; return ;;
        'digest --group-by') true; return ;;
        'digest --filter') true; return ;;
        'digest --details') true; return ;;
        'digest --limit') true; return ;;
        'retry --queue') _kmq_lines "$(kmq --json queues 2>/dev/null | sed -n 's/.*"NextHopDomain":"\([^"]*\)".*/\1/p')" "$word"; return ;;
        'retry --filter') true; return ;;
        'retry --ids-from') mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        'retry --reason') true; return ;;
        'flush --reason') true; return ;;
        'poison --phase') true; return ;;
        'poison --seconds') true; return ;;
        'poison --memory') true; return ;;
        'suspend --queue') _kmq_lines "$(kmq --json queues 2>/dev/null | sed -n 's/.*"NextHopDomain":"\([^"]*\)".*/\1/p')" "$word"; return ;;
        'suspend --filter') true; return ;;
        'suspend --ids-from') mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        'suspend --reason') true; return ;;
        'resume --queue') _kmq_lines "$(kmq --json queues 2>/dev/null | sed -n 's/.*"NextHopDomain":"\([^"]*\)".*/\1/p')" "$word"; return ;;
        'resume --filter') true; return ;;
        'resume --ids-from') mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        'resume --reason') true; return ;;
        'resubmit --queue') _kmq_lines "$(kmq --json queues 2>/dev/null | sed -n 's/.*"NextHopDomain":"\([^"]*\)".*/\1/p')" "$word"; return ;;
        'resubmit --filter') true; return ;;
        'resubmit --ids-from') mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        'resubmit --reason') true; return ;;
        'redirect --queue') _kmq_lines "$(kmq --json queues 2>/dev/null | sed -n 's/.*"NextHopDomain":"\([^"]*\)".*/\1/p')" "$word"; return ;;
        'redirect --filter') true; return ;;
        'redirect --ids-from') mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        'redirect --reason') true; return ;;
        'redirect --to-connector') _kmq_lines "$(kmq config 2>/dev/null | sed -n 's/^\[\([^]]*\) : connector\]$/\1/p')" "$word"; return ;;
        'remove --queue') _kmq_lines "$(kmq --json queues 2>/dev/null | sed -n 's/.*"NextHopDomain":"\([^"]*\)".*/\1/p')" "$word"; return ;;
        'remove --filter') true; return ;;
        'remove --ids-from') mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        'remove --reason') true; return ;;
        'export --queue') _kmq_lines "$(kmq --json queues 2>/dev/null | sed -n 's/.*"NextHopDomain":"\([^"]*\)".*/\1/p')" "$word"; return ;;
        'export --filter') true; return ;;
        'export --ids-from') mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        'export --reason') true; return ;;
        'export --to') mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
        'replay --filter') true; return ;;
        'replay --since') true; return ;;
        'replay --until') true; return ;;
        'replay --to-connector') _kmq_lines "$(kmq config 2>/dev/null | sed -n 's/^\[\([^]]*\) : connector\]$/\1/p')" "$word"; return ;;
        'replay --limit') true; return ;;
        'replay --reason') true; return ;;
        'archive --filter') true; return ;;
        'archive --since') true; return ;;
        'archive --until') true; return ;;
        'archive --limit') true; return ;;
        'archive --to') mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
        'submit --from') true; return ;;
        'submit --to') true; return ;;
        'report --day') _kmq_lines "$(printf '%s\n' today yesterday)" "$word"; return ;;
        'report --since') true; return ;;
        'report --until') true; return ;;
        'report --log') mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        'report --limit') true; return ;;
        'route --sender') true; return ;;
        'route --user') true; return ;;
        'route --client') true; return ;;
        'rules --from') true; return ;;
        'rules --to') true; return ;;
        'doctor --to') true; return ;;
        'restore --log') mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
        *' -c' | *' --config') mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    esac
    case $verb in
        '') _kmq_lines "$(printf '%s\n' mailq queues sql processes show history explain track digest retry flush poison pressure expire suspend resume resubmit redirect remove export replay archive submit report route rules reload check doctor snapshot restore config fsck --help --config --json --version)" "$word" ;;
        mailq)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --queue --filter --include --exclude --sort --limit --bookmark --ids --at --watch)" "$word"
            fi
            ;;
        queues)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --filter --include --exclude --sort --limit --bookmark --watch)" "$word"
            fi
            ;;
        sql)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json)" "$word"
            fi
            ;;
        processes)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --watch)" "$word"
            fi
            ;;
        show)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json)" "$word"
            else
                _kmq_lines "$(kmq mailq --ids 2>/dev/null)" "$word"
            fi
            ;;
        history)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json)" "$word"
            else
                _kmq_lines "$(kmq mailq --ids 2>/dev/null)" "$word"
            fi
            ;;
        explain)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json)" "$word"
            else
                _kmq_lines "$(kmq mailq --ids 2>/dev/null)" "$word"
            fi
            ;;
        track)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --filter --since --until --limit)" "$word"
            else
                _kmq_lines "$(kmq mailq --ids 2>/dev/null)" "$word"
            fi
            ;;
        digest)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --group-by --filter --details --limit)" "$word"
            fi
            ;;
        retry)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --queue --filter --all --ids-from --what-if --yes --reason --messages)" "$word"
            else
                _kmq_lines "$(kmq mailq --ids 2>/dev/null)" "$word"
            fi
            ;;
        flush)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --reason)" "$word"
            fi
            ;;
        poison)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --phase --seconds --memory)" "$word"
            fi
            ;;
        pressure)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json)" "$word"
            fi
            ;;
        expire)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --what-if)" "$word"
            fi
            ;;
        suspend)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --queue --filter --all --ids-from --what-if --yes --reason --messages)" "$word"
            else
                _kmq_lines "$(kmq mailq --ids 2>/dev/null)" "$word"
            fi
            ;;
        resume)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --queue --filter --all --ids-from --what-if --yes --reason --messages)" "$word"
            else
                _kmq_lines "$(kmq mailq --ids 2>/dev/null)" "$word"
            fi
            ;;
        resubmit)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --queue --filter --all --ids-from --what-if --yes --reason)" "$word"
            else
                _kmq_lines "$(kmq mailq --ids 2>/dev/null)" "$word"
            fi
            ;;
        redirect)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --queue --filter --all --ids-from --what-if --yes --reason --to-connector)" "$word"
            else
                _kmq_lines "$(kmq mailq --ids 2>/dev/null)" "$word"
            fi
            ;;
        remove)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --queue --filter --all --ids-from --what-if --yes --reason --with-ndr)" "$word"
            else
                _kmq_lines "$(kmq mailq --ids 2>/dev/null)" "$word"
            fi
            ;;
        export)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --queue --filter --all --ids-from --what-if --yes --reason --to)" "$word"
            else
                _kmq_lines "$(kmq mailq --ids 2>/dev/null)" "$word"
            fi
            ;;
        replay)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --filter --since --until --to-connector --again --with-dsn --list --limit --what-if --yes --reason)" "$word"
            else
                _kmq_lines "$(kmq mailq --ids 2>/dev/null)" "$word"
            fi
            ;;
        archive)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --filter --since --until --limit --to)" "$word"
            fi
            ;;
        submit)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --from --to)" "$word"
            else
                mapfile -t COMPREPLY < <(compgen -f -- "$word")
            fi
            ;;
        report)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --day --since --until --log --limit)" "$word"
            fi
            ;;
        route)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --sender --user --client)" "$word"
            fi
            ;;
        rules)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --from --to)" "$word"
            fi
            ;;
        reload)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json)" "$word"
            fi
            ;;
        check)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json)" "$word"
            fi
            ;;
        doctor)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --to)" "$word"
            fi
            ;;
        snapshot)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json)" "$word"
            else
                mapfile -t COMPREPLY < <(compgen -d -- "$word")
            fi
            ;;
        restore)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --log --no-log --what-if)" "$word"
            else
                mapfile -t COMPREPLY < <(compgen -d -- "$word")
            fi
            ;;
        config)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --man)" "$word"
            fi
            ;;
        fsck)
            if [[ $word == -* ]]; then
                _kmq_lines "$(printf '%s\n' --help --config --json --quick --repair)" "$word"
            fi
            ;;
    esac
}

complete -o filenames -F _kmq kmq
