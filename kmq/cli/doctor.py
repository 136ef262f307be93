"""`kmq doctor`: is this machine a place where a mail server does well?

Promise:  looks only (see admin.doctor). Exit status 0 when nothing is wrong (warnings are not), else 1.
Callers:  kmq.cli.kmq.
"""

import sys
from collections.abc import Iterator

from kmq.admin.doctor import examine
from kmq.admin.verdict import Grade, Verdict
from kmq.cli.call import DONE, REFUSED, Call
from kmq.view.table import BOLD, PLAIN, RED, YELLOW
from kmq.view.words import counted, harmless

#: What people and programs read.
WORDS = {Grade.GOOD: "ok", Grade.NOTE: "warning", Grade.WRONG: "error"}
_TONES = {Grade.GOOD: BOLD, Grade.NOTE: YELLOW, Grade.WRONG: RED}


def run(call: Call) -> int:
    """The verb."""
    counts = dict.fromkeys(Grade, 0)
    for verdict in examine(call.settings, call.arguments.to or ""):
        counts[verdict.grade] += 1
        if call.json:
            word = WORDS[verdict.grade]
            call.tell_objects([{"Status": word, "Found": verdict.what, "Remedy": verdict.remedy or None}])
        else:
            call.tell(_lines(verdict, call.page.colours))
            sys.stdout.flush()  # what is asked of the network takes its time
    wrong = counts[Grade.WRONG]
    if not call.json:
        call.tell(["", f"{counted(wrong, 'error')}, {counted(counts[Grade.NOTE], 'warning')}"])
    return REFUSED if wrong else DONE


def _lines(verdict: Verdict, colours: bool) -> Iterator[str]:
    word = f"{WORDS[verdict.grade]:7}"
    yield (
        f"{_TONES[verdict.grade]}{word}{PLAIN}  {harmless(verdict.what)}"
        if colours
        else (f"{word}  {harmless(verdict.what)}")
    )
    if verdict.remedy:
        yield f"         {harmless(verdict.remedy)}"
