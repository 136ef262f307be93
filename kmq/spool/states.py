"""The table of legal states of kmq-spool(5): what may lie there of one message, what it means, what brings it on.

Promise:  pure; every way in which the files of a message may lie has its row, and the page says the same (a test holds
          it): whoever changes one changes the other.
On crash: nothing to repair.
Callers:  fsck, mending.
"""

from enum import StrEnum
from typing import NamedTuple


class State(NamedTuple):
    """A row: what it means, and what mends it ("" where nothing is to be done)."""

    meaning: str
    mended_by: str


_START = "the next start of kmqd, or kmq fsck --repair"
_ASIDE = "the next start of kmqd, or kmq fsck --repair: it is set aside"

STATES = {
    "S1": State("accepted; its files are still to be made", _START),
    "S2": State("accepted; what is missing of its files is still to be made", _START),
    "S3": State("in the queue", ""),
    "S4": State("on its way between queue/ and poison/", _START),
    "S5": State("set aside", ""),
    "S6": State("removed; files of it are still to go", _START),
    "S7": State("no message; a name in incoming/ is of a receiver that is gone", _START),
    "S8": State("half made by a start that was cut; it counts for nothing", _START),
    "S9": State("kept after its delivery", ""),
    "S10": State("archived", ""),
    "D0": State("FORMAT is missing or damaged", "the next start of kmqd if it is missing; else write it by hand"),
    "D1": State("a body without envelope and without record", _ASIDE),
    "D2": State("an envelope without body", _ASIDE),
    "D3": State("an envelope whose head is damaged", _ASIDE),
    "D4": State(
        "a body that is not what was accepted",
        "kmq fsck --repair, or the next start of kmqd where the size is wrong: it is set aside",
    ),
    "D5": State("an envelope of another ID than its file's name", _ASIDE),
    "D6": State(
        "files in both homes without a move",
        "kmq fsck --repair: the envelope with more lines counts, what differs is set aside",
    ),
    "D7": State("a name that kmq did not make", "nobody: kmq leaves it alone; move it away"),
    "D8": State("a damaged line in an envelope; it did not happen", "nobody: the other lines count"),
    "D9": State("the checkpoint is damaged", _START),
    "D10": State(
        "a part of the journal is damaged; what it said of mail is lost",
        "the next start of kmqd, or kmq fsck --repair: the segment is kept as journal/damaged.*",
    ),
    "D11": State("kept after its delivery, and damaged: it cannot be replayed", "nobody: it goes when its day is over"),
    "D12": State(
        "a damaged line in state/: a suspended queue goes on, or a connector gets another GUID",
        "kmq fsck --repair, or the next change of that file: the other lines count",
    ),
    "D13": State("archived, and damaged", "nobody: what is whole of it is there to read"),
}

#: Nothing is to be done about these.
AT_REST = frozenset({"S3", "S5", "S9", "S10"})
#: These last for moments while kmqd runs, and are not worth a word then.
MOVING = frozenset({"S1", "S2", "S4", "S6", "S7", "S8"})


class Part(StrEnum):
    """What lies there under a name, written as the page does; `!` and `x` are what it calls not whole."""

    ABSENT = "-"
    WHOLE = "+"
    BROKEN = "!"
    FOREIGN = "x"


class Files(NamedTuple):
    """What lies there of a message in one home."""

    body: Part
    envelope: Part


NOTHING = Files(Part.ABSENT, Part.ABSENT)


class Said(NamedTuple):
    """What the journal says of a message. put: only when it can be carried out, that is when its body is somewhere."""

    put: bool = False
    move: bool = False
    remove: bool = False


#: The damage of a message by its envelope; where that is whole, it is the body's.
_BY_ENVELOPE = {Part.ABSENT: "D1", Part.BROKEN: "D3", Part.FOREIGN: "D5"}


def row(queue: Files, poison: Files, said: Said, explained: bool) -> str:
    """The row of a message. explained: a .reason lies beside it in poison/."""
    there = [files for files in (queue, poison) if files != NOTHING]
    if said.remove or not there:
        return "S6" if there else "S1" if said.put and not said.remove else "S7"
    whole = any(files.envelope is Part.WHOLE for files in there) and any(files.body is Part.WHOLE for files in there)
    if whole and len(there) == 1:
        return "S3" if poison == NOTHING else "S5"
    if whole and said.move:
        return "S4"
    if explained and queue == NOTHING:
        return "S5"
    if said.put:
        return "S2"
    if len(there) == 2 and not said.move:
        return "D6"
    return _BY_ENVELOPE.get(there[0].envelope) or ("D2" if there[0].body is Part.ABSENT else "D4")
