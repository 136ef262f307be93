"""Finds the worked examples in a document: commands behind `$ `, each with the output that the document shows.

Markdown: blocks fenced with ```console. Manual pages: literal displays (.Bd -literal ... .Ed, and .nf ... .fi) that
begin with `$ `.
A comment names the scene in which the following blocks play: `<!-- scene: busy -->`, `.\\" scene: busy`. Blocks of one
scene follow each other in one kmqd until the scene is named again.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

_SCENE = re.compile(r'(?:<!--|\.\\") scene: ([a-z-]+)')
_ESCAPES = (("\\(dq", '"'), ("\\-", "-"), ("\\&", ""), ("\\(ti", "~"), ("\\(ha", "^"), ("\\e", "\\"))


@dataclass
class Example:
    """One command. first, last: the lines of its output in the document, counted from 0; last is not one of them."""

    command: str
    output: list[str]
    first: int
    last: int


@dataclass
class Act:
    """The examples that are played one after the other in one scene. line: where it is named, counted from 1."""

    scene: str
    line: int
    examples: list[Example] = field(default_factory=list)


def acts(path: Path) -> list[Act]:
    """All acts of a document; blocks before the first scene are only for reading."""
    manual = path.suffix != ".md"
    closing_of = {".Bd -literal": ".Ed", ".nf": ".fi"} if manual else {"```console": "```"}
    found: list[Act] = []
    lines = path.read_text().splitlines()
    at = 0
    while at < len(lines):
        named = _SCENE.match(lines[at])
        if named:
            found.append(Act(named[1], at + 1))
        elif found and (closing := _closing(lines[at], closing_of)):
            end = lines.index(closing, at + 1)
            if end > at + 1 and lines[at + 1].startswith("$ "):
                found[-1].examples += _examples(lines, at + 1, end, manual)
            at = end
        at += 1
    return [act for act in found if act.examples]


def _closing(line: str, closing_of: dict[str, str]) -> str:
    return next((closing for opening, closing in closing_of.items() if line.startswith(opening)), "")


def _examples(lines: list[str], first: int, end: int, manual: bool) -> list[Example]:
    plain = [_plain(line) if manual else line for line in lines]
    found: list[Example] = []
    at = first
    while at < end:
        command = plain[at].removeprefix("$ ")
        while plain[at].endswith("\\") or (at + 1 < end and plain[at + 1].startswith("> ")):
            at += 1
            command += "\n" + plain[at].removeprefix("> ")
        begin = at = at + 1
        while at < end and not plain[at].startswith("$ "):
            at += 1
        found.append(Example(command, plain[begin:at], begin, at))
    return found


def _plain(line: str) -> str:
    for escape, sign in _ESCAPES:
        line = line.replace(escape, sign)
    return line
