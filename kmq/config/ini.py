"""Reading the lines of a configuration: which section says what, and in which line.

The text is what `configparser` reads (comments, inline comments after a blank, values that go on in indented lines),
with `=` alone between option and value. configparser itself tells no line of a value and stops at the first mistake,
so its rules are followed here; its interpolation is used as it is (`reading`).

Promise:  every mistake of form is told with its line, and what stands around it is read all the same.
Shapes:   `[child : parent]` is Part("child", "parent", ...); `option[host] = value` is Written with that host.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

_HEADING = re.compile(r"\[\s*([^\]:]*?)\s*(?::\s*([^\]]*?)\s*)?\]$")
_OPTION = re.compile(r"([^=\[\]]+?)\s*(?:\[\s*([^\]=]*?)\s*\])?\s*=\s*(.*)$")
_COMMENT = re.compile(r"(?:^|(?<=\s))[#;].*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*$")


class Problem(NamedTuple):
    """A mistake and its line; line 0 for one that has no place."""

    line: int
    text: str


class Written(NamedTuple):
    """A value as it stands in the file. host: "" for all machines, else the one it is for, in lower case.

    rows: the lines of its rows, when it has several.
    """

    line: int
    host: str
    text: str
    rows: tuple[int, ...] = ()

    def line_of(self, row: int) -> int:
        """Where a row of the text stands; counted from 0."""
        return self.rows[row] if row < len(self.rows) else self.line


@dataclass(slots=True)
class Part:
    """One section. parent: "" when the heading names none; options: name -> what is written, by host."""

    name: str
    parent: str
    line: int
    options: dict[str, dict[str, Written]] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        return f"{self.name} : {self.parent}" if self.parent else self.name


class _Reading:
    """The state while lines go by: the section, the option whose value may go on, and how far it is indented."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.problems: list[Problem] = []
        self.part: Part | None = None
        self.last: tuple[str, str] | None = None
        self.indent = 0

    def line(self, number: int, raw: str) -> None:
        text = _COMMENT.sub("", raw).strip()
        if not text:
            return
        indent = len(raw) - len(raw.lstrip())
        if self.last is not None and indent > self.indent:
            self._go_on(number, text)
            return
        self.indent = indent
        self.last = None
        if text.startswith("["):
            self._heading(number, text)
        else:
            self._option(number, text)

    def _go_on(self, number: int, text: str) -> None:
        assert self.part is not None and self.last is not None
        name, host = self.last
        written = self.part.options[name][host]
        rows = written.rows or ((written.line,) if written.text else ())
        joint = f"{written.text}\n{text}".strip()
        self.part.options[name][host] = written._replace(text=joint, rows=(*rows, number))

    def _heading(self, number: int, text: str) -> None:
        found = _HEADING.match(text)
        name, parent = found.groups("") if found else ("", "")
        if not found or not _NAME.match(name) or (":" in text and not _NAME.match(parent)):
            # The options below belong to nobody; they are read, and not told as mistakes of their own.
            self.part = Part("", "", number)
            self.problems.append(Problem(number, f"{text} is no heading: write it like [queue] or [mx : receiver]"))
            return
        self.part = Part(name, parent, number)
        first = self.parts.setdefault(name, self.part)
        if first is not self.part:
            where = f"[{first.heading}] in line {first.line}"
            self.problems.append(Problem(number, f"[{self.part.heading}] has the name of {where}: names are unique"))

    def _option(self, number: int, text: str) -> None:
        found = _OPTION.match(text)
        if not found:
            self.problems.append(Problem(number, f"{text!r} is neither [heading] nor option = value nor ; comment"))
            return
        if self.part is None:
            self.problems.append(Problem(number, f"{text!r} stands before the first [section]"))
            return
        name, host, value = found.groups("")
        by_host = self.part.options.setdefault(name.lower(), {})
        written = Written(number, host.lower(), value)
        first = by_host.setdefault(written.host, written)
        if first is not written:
            self.problems.append(Problem(number, f"{name} stands in [{self.part.heading}] already, line {first.line}"))
            return
        self.last = (name.lower(), written.host)


def scan(text: str) -> tuple[dict[str, Part], list[Problem]]:
    """The sections of a configuration's text by name, in the order of the file, and the mistakes of form."""
    reading = _Reading()
    for number, raw in enumerate(text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n"), 1):
        reading.line(number, raw)
    return reading.parts, reading.problems
