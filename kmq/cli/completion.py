"""Completion of kmq's command line for bash, zsh and fish, printed from the table of verbs.

Shape:    `python -m kmq.cli.completion bash` prints what stands in completion/kmq.bash, and a test holds the files
          against it. Verbs, options, IDs of the queue, names of queues, files.
Callers:  whoever changes the verbs.
"""

import sys
from argparse import Action, ArgumentParser, _SubParsersAction
from collections.abc import Callable, Iterator
from typing import NamedTuple

from kmq.cli.parser import VERBS, parser

#: What is completed, by the name of an argument.
_KINDS = {"ID": "ids", "Q": "queues", "FILE": "files", "CONF": "files", "DIR": "folders", "DAY": "days"}
_KINDS["C"] = "connectors"

#: How a shell finds out. Both look only, and say nothing when kmq cannot.
IDS = "kmq mailq --ids 2>/dev/null"
QUEUES = """kmq --json queues 2>/dev/null | sed -n 's/.*"NextHopDomain":"\\([^"]*\\)".*/\\1/p'"""
CONNECTORS = "kmq config 2>/dev/null | sed -n 's/^\\[\\([^]]*\\) : connector\\]$/\\1/p'"
DAYS = ("today", "yesterday")


class Option(NamedTuple):
    """names: as `-c`, `--config`; takes: a kind, "" for something that cannot be known, None when it takes nothing."""

    names: tuple[str, ...]
    takes: str | None
    does: str
    again: bool = False


class Place(NamedTuple):
    """A verb. takes: the kind of its arguments, "" for none that could be known."""

    name: str
    does: str
    options: tuple[Option, ...]
    takes: str


def _options(one: ArgumentParser) -> Iterator[Option]:
    for action in one._actions:
        if action.option_strings:
            takes = None if action.nargs == 0 else _KINDS.get(str(action.metavar), "")
            again = type(action).__name__ == "_AppendAction"
            yield Option(tuple(action.option_strings), takes, str(action.help or ""), again)


def _taken(one: ArgumentParser) -> str:
    arguments = [action for action in one._actions if not action.option_strings and not _is_verbs(action)]
    return _KINDS.get(str(arguments[0].metavar), "") if arguments else ""


def _is_verbs(action: Action) -> bool:
    return isinstance(action, _SubParsersAction)


def places() -> tuple[tuple[Option, ...], list[Place]]:
    """The options of kmq itself, and all verbs."""
    whole = parser()
    (verbs,) = [action for action in whole._actions if isinstance(action, _SubParsersAction)]
    found = [Place(name, VERBS[name].does, tuple(_options(one)), _taken(one)) for name, one in verbs.choices.items()]
    return tuple(_options(whole)), found


# --- bash -------------------------------------------------------------------------------------------------------------


def bash() -> str:
    """For bash-completion's folder, as `kmq`; it needs nothing of bash-completion itself."""
    general, verbs = places()
    words = " ".join(place.name for place in verbs)
    lines = [
        "# bash completion for kmq",
        "",
        "# Lines that begin so; none of them is ever evaluated.",
        "_kmq_lines() {",
        "    local line",
        "    while IFS= read -r line; do",
        '        [[ -n $line && $line == "$2"* ]] && COMPREPLY+=("$line")',
        '    done <<<"$1"',
        "}",
        "",
        "_kmq() {",
        "    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} verb= at",
        "    for ((at = 1; at < COMP_CWORD; at++)); do",
        "        case ${COMP_WORDS[at]} in",
        "            -c | --config) ((at++)) ;;",
        "            -*) ;;",
        "            *) verb=${COMP_WORDS[at]}; break ;;",
        "        esac",
        "    done",
        "    COMPREPLY=()",
        '    case "$verb $before" in',
    ]
    for place in (Place("", "", general, ""), *verbs):
        for option in place.options:
            if option.takes is not None and (place.name == "" or option not in general):
                names = " | ".join(f"'{place.name} {name}'" for name in option.names)
                lines.append(f"        {names}) {_bash_way(option.takes)}; return ;;")
    names = " | ".join(f"*' {name}'" for option in general if option.takes is not None for name in option.names)
    lines.append(f"        {names}) {_bash_way('files')}; return ;;")
    lines += [
        "    esac",
        "    case $verb in",
        f"        '') _kmq_lines \"$(printf '%s\\n' {words} {_names(general)})\" \"$word\" ;;",
    ]
    for place in verbs:
        lines.append(f"        {place.name})")
        lines.append("            if [[ $word == -* ]]; then")
        lines.append(f'                _kmq_lines "$(printf \'%s\\n\' {_names(place.options)})" "$word"')
        if place.takes:
            lines += ["            else", f"                {_bash_way(place.takes)}"]
        lines += ["            fi", "            ;;"]
    lines += ["    esac", "}", "", "complete -o filenames -F _kmq kmq", ""]
    return "\n".join(lines)


def _names(options: tuple[Option, ...]) -> str:
    return " ".join(name for option in options for name in option.names if name.startswith("--"))


def _bash_way(kind: str) -> str:
    return {
        "ids": f'_kmq_lines "$({IDS})" "$word"',
        "queues": f'_kmq_lines "$({QUEUES})" "$word"',
        "connectors": f'_kmq_lines "$({CONNECTORS})" "$word"',
        "days": f'_kmq_lines "$(printf \'%s\\n\' {" ".join(DAYS)})" "$word"',
        "files": 'mapfile -t COMPREPLY < <(compgen -f -- "$word")',
        "folders": 'mapfile -t COMPREPLY < <(compgen -d -- "$word")',
        "": "true",
    }[kind]


# --- zsh --------------------------------------------------------------------------------------------------------------


def zsh() -> str:
    """For a folder in $fpath, as `_kmq`."""
    general, verbs = places()
    lines = [
        "#compdef kmq",
        "",
        "_kmq_ids() {",
        "    local -a ids",
        f'    ids=(${{(f)"$({IDS})"}})',
        "    compadd -a ids",
        "}",
        "",
        "_kmq_queues() {",
        "    local -a queues",
        f'    queues=(${{(f)"$({QUEUES})"}})',
        "    compadd -a queues",
        "}",
        "",
        "_kmq_connectors() {",
        "    local -a names",
        f'    names=(${{(f)"$({CONNECTORS})"}})',
        "    compadd -a names",
        "}",
        "",
        "_kmq() {",
        "    local context state line",
        "    typeset -A opt_args",
        "    local -a verbs",
        "    verbs=(",
        *(f"        {_quoted(f'{place.name}:{_colons(place.does)}')}" for place in verbs),
        "    )",
        "    _arguments -C \\",
        *(f"        {one} \\" for option in general for one in _zsh_option(option)),
        "        '1:verb:->verb' '*::argument:->argument'",
        "    case $state in",
        "        verb) _describe -t verbs 'verb' verbs ;;",
        "        argument)",
        "            case $line[1] in",
    ]
    for place in verbs:
        rest = [one for option in place.options for one in _zsh_option(option)]
        if place.takes:
            rest.append(f"'*:{place.takes}:{_ZSH[place.takes]}'")
        lines += [f"                {place.name})", "                    _arguments \\"]
        lines += [f"                        {one} \\" for one in rest[:-1]]
        lines += [f"                        {rest[-1]}", "                    ;;"]
    lines += ["            esac", "            ;;", "    esac", "}", "", '_kmq "$@"', ""]
    return "\n".join(lines)


_ZSH = {"ids": "_kmq_ids", "queues": "_kmq_queues", "files": "_files", "folders": "_files -/", "": " "}
_ZSH["connectors"] = "_kmq_connectors"
_ZSH["days"] = f"({' '.join(DAYS)})"


def _zsh_option(option: Option) -> Iterator[str]:
    text = option.does.replace("[", "\\[").replace("]", "\\]")
    value = "" if option.takes is None else f":value:{_ZSH[option.takes]}"
    others = "" if option.again else f"({' '.join(option.names)})"
    for name in option.names:
        star = "*" if option.again else ""
        yield _quoted(f"{others}{star}{name}[{_colons(text)}]{value}")


def _colons(text: str) -> str:
    return text.replace(":", "\\:")


def _quoted(text: str) -> str:
    """One word for a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


# --- fish -------------------------------------------------------------------------------------------------------------


def fish() -> str:
    """For fish's folder of completions, as `kmq.fish`."""
    general, verbs = places()
    lines = ["# fish completion for kmq", "", "complete -c kmq -f"]
    lines += [f"complete -c kmq {_fish_option(option)}" for option in general]
    for place in verbs:
        lines.append(f"complete -c kmq -n __fish_use_subcommand -a {place.name} -d {_quoted(place.does)}")
    for place in verbs:
        seen = f"-n '__fish_seen_subcommand_from {place.name}'"
        for option in place.options:
            if option not in general and "--config" not in option.names and "--json" not in option.names:
                lines.append(f"complete -c kmq {seen} {_fish_option(option)}")
        if place.takes:
            lines.append(f"complete -c kmq {seen} {_FISH[place.takes]}")
    return "\n".join([*lines, ""])


_FISH = {
    "ids": f"-a '({IDS})'",
    "queues": '-a "({})"'.format(QUEUES.replace('"', '\\"')),
    "connectors": '-a "({})"'.format(CONNECTORS.replace('"', '\\"').replace("$/", "\\$/")),
    "files": "-F",
    "folders": "-a '(__fish_complete_directories)'",
    "days": f"-a '{' '.join(DAYS)}'",
    "": "",
}


def _fish_option(option: Option) -> str:
    words = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    if option.takes is not None:
        words.append("-r" if option.takes == "files" else "-x")
        words.append(_FISH[option.takes])
    return " ".join([*filter(None, words), f"-d {_quoted(option.does)}"])


#: Shell -> (file in completion/, what prints it).
SHELLS: dict[str, tuple[str, Callable[[], str]]] = {
    "bash": ("kmq.bash", bash),
    "zsh": ("_kmq", zsh),
    "fish": ("kmq.fish", fish),
}

if __name__ == "__main__":
    sys.stdout.write(SHELLS[sys.argv[1]][1]())
