"""The ledger: what was promised to whom, and the judge who compares it with what came of it.

Promise:  a violation is a sentence. No letter is forgiven for a death that could not touch it: a copy too many is
          allowed only when the very worker that gave one away died before that was durable, and before the other came.
          Next hops note what they have read, and may be late on a busy machine; so order is not taken from times.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from tests.torture.letters import STRANGER

#: Seconds within which what a worker gave away is durable, while a scheduler process is there to hear of it: the
#: slowest hop takes one second for its answer.
IN_FLIGHT = 2.5
#: File times are that coarse.
COARSE = 0.05

REFUSING = "refuse.test"  #: the hop behind it takes nobody
LOCAL = "local.test"


@dataclass(slots=True)
class Sent:
    """A letter as its sender knows it. answered: the 250 of its final dot came, with this ID."""

    recipients: list[str]
    answered: str = ""


class Copy(NamedTuple):
    """A letter that came to a recipient. at: Unix time at which its taker had read it; by: the process that brought it,
    0 where that is not known."""

    token: str
    recipient: str
    whole: bool
    at: float
    by: int = 0


class Death(NamedTuple):
    """Something that was killed. at, back: Unix time of the kill, and when its successor was there; pids: of those who
    could no longer tell what they had done."""

    name: str
    at: float
    back: float
    pids: frozenset[int] = frozenset()


@dataclass
class Ledger:
    """What was sent, what came, what died. in_flight: IN_FLIGHT, or more where others use the machine too."""

    sent: dict[str, Sent] = field(default_factory=dict)
    copies: list[Copy] = field(default_factory=list)
    notices: list[tuple[str, list[str]]] = field(default_factory=list)
    deaths: list[Death] = field(default_factory=list)
    queued: set[str] = field(default_factory=set)
    in_flight: float = IN_FLIGHT

    @property
    def answered(self) -> int:
        return sum(1 for one in self.sent.values() if one.answered)

    def judge(self) -> "Verdict":
        """Everything that is not as it must be."""
        came: dict[tuple[str, str], list[Copy]] = defaultdict(list)
        wrong: list[str] = []
        for copy in self.copies:
            if copy.token == STRANGER:
                continue
            if not copy.whole:
                wrong.append(f"HALF {copy.token}: what {copy.recipient} got is not whole")
            came[copy.token, copy.recipient].append(copy)
        told = Counter((token, recipient) for token, recipients in self.notices for recipient in recipients)
        for token, recipient in {*came, *told}:
            known = self.sent.get(token)
            if known is None or recipient not in known.recipients:
                wrong.append(f"NEVER SENT {token} to {recipient}")
        duplicates = 0
        for token, letter in self.sent.items():
            for recipient in letter.recipients:
                copies = sorted(came.get((token, recipient), ()), key=lambda copy: copy.at)
                duplicates += max(0, len(copies) - 1)
                wrong += self._wrong(token, letter, recipient, copies, told[token, recipient])
        return Verdict(wrong, self.answered, len(self.sent), len(self.copies), sum(told.values()), duplicates)

    def _wrong(self, token: str, letter: Sent, recipient: str, copies: list[Copy], notices: int) -> Iterable[str]:
        if letter.answered and not copies and not notices and token not in self.queued:
            yield f"LOST {letter.answered} {token} to {recipient}"
        if notices and (copies or not recipient.endswith(REFUSING)):
            yield f"WRONG NOTICE {letter.answered} {token} to {recipient}: {notices} beside {len(copies)} copies"
        if notices > 1:
            yield f"TWO NOTICES {letter.answered} {token} to {recipient}: {notices}"
        for one, other in pairwise(copies):
            if recipient.endswith(LOCAL):
                yield f"TWICE IN A MAILDIR {letter.answered} {token} to {recipient}"
            elif not self._excused(one, other) and not self._excused(other, one):
                said = " and ".join(f"{copy.at:.3f} by {copy.by}" for copy in (one, other))
                yield f"TWICE {letter.answered} {token} to {recipient} at {said}"

    def _excused(self, first: Copy, second: Copy) -> bool:
        """Who brought the first died soon, so that its result may not have been durable; then another brought it."""
        return first.by != second.by and any(
            first.by in death.pids
            and death.at <= second.at + COARSE
            and death.at - first.at - self._deaf(first.at, death.at) <= self.in_flight
            for death in self.deaths
        )

    def _deaf(self, begin: float, end: float) -> float:
        """Seconds of a span in which no scheduler process was there to make results durable."""
        away = [one for one in self.deaths if one.name in ("scheduler-1", "all", "kmqd")]
        return sum(max(0.0, min(end, one.back) - max(begin, one.at)) for one in away)


class Verdict(NamedTuple):
    """What the judge says. answered, sent: letters; copies, notices, duplicates: of any."""

    wrong: list[str]
    answered: int
    sent: int
    copies: int
    notices: int
    duplicates: int

    def __str__(self) -> str:
        return (
            f"{self.sent} letters sent, {self.answered} acknowledged, {self.copies} copies, {self.notices} notices,"
            f" {self.duplicates} duplicates, {len(self.wrong)} violations"
        )
