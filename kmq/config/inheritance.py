"""Who inherits from whom, and which of several values counts.

Law:      a section's line of parents ends in a kind: [mx : submission] <- [submission : receiver] <- [receiver]. The
          nearest section that names an option wins; in one section `option[host]` wins over `option`, and the full
          host name over the short one.
Promise:  pure, but for the full name of this machine, asked only when the file names hosts in full.
"""

from collections.abc import Iterable
from typing import NamedTuple

from kmq.config.ini import Part, Problem, Written
from kmq.config.kinds import nearest
from kmq.config.sections import KINDS, SINGLE

#: A section that nobody writes: `${machine:name}`.
MACHINE = "machine"


class Line(NamedTuple):
    """A line of parents. parts: the section itself first, the root last if it is written."""

    kind: str
    parts: tuple[Part, ...]


class Choice(NamedTuple):
    """The value that counts, and the section in which it stands."""

    part: Part
    written: Written


def line_of(part: Part, parts: dict[str, Part]) -> Line | Problem:
    """The line of parents of a section, or the mistake that breaks it."""
    chain = [part]
    while chain[-1].name not in KINDS:
        last = chain[-1]
        if last.parent in SINGLE:
            return Problem(last.line, f"[{last.heading}]: there is one [{last.parent}]; nothing inherits from it")
        if last.name == MACHINE:
            return Problem(last.line, f"[{last.heading}]: the name {MACHINE} is taken: call the section something else")
        following = parts.get(last.parent)
        if following is None:
            return Line(last.parent, tuple(chain)) if last.parent in KINDS else _orphan(last, parts)
        if any(one is following for one in chain):
            return _circle(chain[chain.index(following) :])
        chain.append(following)
    root = chain[-1]
    if root.parent:
        return Problem(root.line, f"[{root.heading}]: {root.name} is a kind of section: give this one another name")
    return Line(root.name, tuple(chain))


def _orphan(part: Part, parts: dict[str, Part]) -> Problem:
    if part.parent:
        hint = nearest(part.parent, (*KINDS, *parts))
        return Problem(part.line, f"[{part.heading}]: there is no section {part.parent!r}{hint}")
    kinds = ", ".join(f"[{kind}]" if kind in SINGLE else f"[{part.name} : {kind}]" for kind in KINDS)
    hint = nearest(part.name, tuple(KINDS))
    return Problem(part.line, f"[{part.name}] is no kind of section: write one of {kinds}{hint}")


def _circle(chain: list[Part]) -> Problem:
    """Told once for all sections of the circle: from its first line."""
    first = min(range(len(chain)), key=lambda place: chain[place].line)
    names = [part.name for part in (*chain[first:], *chain[:first], chain[first])]
    return Problem(chain[first].line, f"[{chain[first].heading}] inherits from itself: {' : '.join(names)}")


def choose(line: Line, hosts: tuple[str, ...]) -> dict[str, Choice]:
    """Option -> the value that counts for a machine with these names (best first, "" last)."""
    chosen: dict[str, Choice] = {}
    for part in line.parts:
        for option, by_host in part.options.items():
            if option in chosen:
                continue
            for host in hosts:
                if host in by_host:
                    chosen[option] = Choice(part, by_host[host])
                    break
    return chosen


def names_of(machine: str, parts: Iterable[Part]) -> tuple[str, ...]:
    """What a host in brackets may call this machine, best first: full name, short name, "" for all machines."""
    full = machine.lower()
    short = full.partition(".")[0]
    named = {host for part in parts for by_host in part.options.values() for host in by_host}
    if full == short and any(host.startswith(f"{short}.") for host in named):
        from socket import getfqdn  # slow, and few need it

        full = getfqdn(machine).lower()
    return tuple(dict.fromkeys((full, short, "")))
