"""`kmq check`: is everything in order for kmqd to start, or to go on?

Promise:  looks only. Exit status 0 when nothing is wrong (notes are not), else 78.
Callers:  kmq.cli.kmq.
"""

import sys
from collections.abc import Iterator

from kmq import log
from kmq.admin.check import examine
from kmq.admin.verdict import Grade, Verdict
from kmq.cli.call import DONE, Call
from kmq.errors import ConfigError
from kmq.view.table import BOLD, PLAIN, RED
from kmq.view.words import harmless


def run(call: Call) -> int:
    """The verb."""
    log.start("kmq", "error")  # what is wrong with files is told as what it is
    wrong = 0
    for verdict in examine(call.settings):
        wrong += verdict.grade is Grade.WRONG
        if call.json:
            call.tell_objects([{"Grade": verdict.grade.value, "What": verdict.what, "Remedy": verdict.remedy or None}])
        else:
            call.tell(_lines(verdict, call.page.colours))
    if not wrong:
        return DONE
    print(f"kmq: {wrong} wrong: kmqd would not start, or not work", file=sys.stderr)
    return ConfigError.exit_status


def _lines(verdict: Verdict, colours: bool) -> Iterator[str]:
    grade = f"{verdict.grade.value:5}"
    if colours and verdict.grade is not Grade.NOTE:
        grade = f"{RED if verdict.grade is Grade.WRONG else BOLD}{grade}{PLAIN}"
    yield f"{grade}  {harmless(verdict.what)}"
    if verdict.remedy:
        yield f"       {harmless(verdict.remedy)}"
