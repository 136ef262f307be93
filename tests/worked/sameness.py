"""When the output of a command is what a document shows: the same words, whatever the hour, the process and the widths.

In a document `...` stands for anything, on a line of its own for any lines.
"""

import re
from collections.abc import Sequence

#: What differs from run to run -> what stands for it.
_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[ ]?[+-]\d\d:?\d\d| UTC)?"), "TIME"),
    (re.compile(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d+ \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}"), "TIME"),
    (re.compile(r"\b(\d\d-\d\d )?\d\d:\d\d:\d\d\b"), "TIME"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "DATE"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "CHECKSUM"),
    (re.compile(r'"sum":"[0-9a-f]{8}"'), "CHECKSUM"),
    (re.compile(r"\[\d{2,7}\]"), "[PID]"),
    (re.compile(r"\bpid[ =]\d+"), "PID"),
    (re.compile(r"\b\d+(\.\d+)? ?(ms|s|sec|seconds?|min|minutes?)\b"), "DURATION"),
    (re.compile(r"\b\d+(\.\d+)? (B|K|M|G)\b"), "SIZE"),
    (re.compile(r"\bdelays?=[0-9./]+"), "DELAY"),
    (re.compile(r"\b\d+\.\d{3}\b"), "SECONDS"),
    (re.compile(r"[\d,]+ MiB are free"), "ROOM"),
    (re.compile(r',"took":\d+'), ""),
    (re.compile(r"-{3,}"), "---"),
    (re.compile(r"[ \t]+"), " "),
)


def plain(line: str) -> str:
    """A line without what differs from run to run."""
    for pattern, word in _VARYING:
        line = pattern.sub(word, line)
    return line.strip()


def difference(shown: Sequence[str], real: Sequence[str]) -> str:
    """ "" when the real output is what is shown, else both, for people."""
    if _matches([plain(line) for line in shown], [plain(line) for line in real]):
        return ""
    return "\n".join(["the document shows:", *shown, "but it is:", *real])


def _matches(shown: list[str], real: list[str]) -> bool:
    """Whether the lines are the same; `...` alone takes as many lines as are needed."""
    if not shown:
        return not real
    if shown[0] == "...":
        return any(_matches(shown[1:], real[taken:]) for taken in range(len(real) + 1))
    return bool(real) and _same(shown[0], real[0]) and _matches(shown[1:], real[1:])


def _same(shown: str, real: str) -> bool:
    if "..." not in shown:
        return shown == real
    return re.fullmatch(".*".join(map(re.escape, shown.split("..."))), real) is not None
