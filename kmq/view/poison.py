"""What was set aside in poison/, and how a phase of it went when it was run for trial.

Callers:  kmq.cli.
"""

from collections.abc import Iterator, Sequence

from kmq.admin.confinement import Ending, Fate
from kmq.admin.poison import Case
from kmq.model import moment
from kmq.view.table import Column, Page, Row, table
from kmq.view.words import harmless, local_time

COLUMNS = (
    Column("ID"),
    Column("Size", right=True),
    Column("From", elastic=True),
    Column("To", right=True),
    Column("Since"),
    Column("Phase"),
    Column("Crashes", right=True),
)

#: What may be done next, by how a trial ended.
_REMEDY = {
    Fate.FAILED: "kmq export {name} --to DIR keeps a copy for a report; kmq remove {name} takes it out",
    Fate.CRASHED: "kmq export {name} --to DIR keeps a copy for a report; kmq remove {name} takes it out",
    Fate.HUNG: "a larger --seconds tells whether it ends at all; kmq export {name} --to DIR keeps a copy for a report",
    Fate.MEMORY: "a larger --memory tells whether it ends at all; kmq export {name} --to DIR keeps a copy for a report",
}


def cases(found: Sequence[Case], page: Page) -> Iterator[str]:
    """The table of poison/."""
    if not found:
        return iter(["Nothing is set aside in poison/"])
    return table(COLUMNS, map(_row, found), page)


def _row(case: Case) -> Row:
    cells = (
        case.id,
        f"{case.size:,}",
        f"<{case.sender}>",
        str(case.recipients),
        _since(case.since),
        case.phase or "-",
        str(case.crashes),
    )
    return Row(cells, below=case.reason)


def _since(at: str) -> str:
    try:
        return local_time(moment.from_text(at))
    except ValueError:
        return "-"


def tried(name: str, phase: str, ending: Ending) -> Iterator[str]:
    """One phase of one message; what may be done next is told where it did not pass, else by `harmless_now`."""
    cause = f": {ending.cause}" if ending.cause else ""
    yield harmless(f"{name}  {phase}: {ending.fate.value}{cause} ({ending.took:.1f} s)")
    for sentence in ending.said:
        yield f"  {harmless(sentence)}"
    for line in ending.trace.splitlines():
        yield f"  | {harmless(line)}"
    if ending.lacking:
        yield f"  this system did not grant: {', '.join(ending.lacking)}"
    if ending.fate is not Fate.PASSED:
        yield f"  {_REMEDY[ending.fate].format(name=name)}"


def harmless_now(name: str) -> str:
    """Behind all phases of a message in poison/, when they passed."""
    return f"  it does no harm here now: kmq resume {name} tries it once more"
