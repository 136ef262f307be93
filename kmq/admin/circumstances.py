"""What the envelopes do not tell: the states of queues, which kmqd knows, and what its processes have in hand now.

Promise:  gathered without disturbing anybody; when kmqd does not run or does not answer, `silence` says why and the
          rest is as complete as can be.
On crash: read-only.
Callers:  kmq.cli.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kmq.admin import client
from kmq.errors import Unreachable
from kmq.model import moment
from kmq.spool.processes import Condition, read_all
from kmq.spool.status import InHand

#: What a queue waits for that its connector's hours keep from sending (run/hours): its timetable, to be asked for, or
#: other hours.
HOURS = ("scheduled", "on-demand", "out-of-hours")


@dataclass(slots=True)
class QueueState:
    """What kmqd says of a queue. next_retry: Unix time, 0 for none; failures: attempts in vain on end.

    held_by: who suspended it and why (`uid 0: reason`, `grace hold: cause`); waits_for: the code of what it waits for
    now; messages: how many; told: all that was said.
    """

    status: str = ""
    last_error: str = ""
    next_retry: float = 0.0
    failures: int = 0
    held_by: str = ""
    waits_for: str = ""
    messages: int = 0
    told: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True)
class Circumstances:
    """now: Unix time; server: this machine's name in identities; queues: by the text of the next hop; in_hand: by ID.

    still: what has it in hand stands still for so many seconds, by ID.
    statuses: what the scheduler says of messages that were asked for, by ID and the text of the next hop.
    alone: those of them that are to be tried alone, since a worker died that had them.
    silence:  why kmqd did not answer, "" when it did; news: what else it had to say.
    """

    now: float
    server: str
    queues: dict[str, QueueState] = field(default_factory=dict)
    in_hand: dict[str, InHand] = field(default_factory=dict)
    still: dict[str, float] = field(default_factory=dict)
    statuses: dict[tuple[str, str], str] = field(default_factory=dict)
    alone: set[tuple[str, str]] = field(default_factory=set)
    silence: str = ""
    news: str = ""


def gather(server: str, spool: Path, run_directory: Path) -> Circumstances:
    """The circumstances as they are now."""
    around = Circumstances(time.time(), server)
    for process in read_all(spool / "status", dead=False):
        if process.condition is not Condition.DEAD:
            around.in_hand.update((hand.id, hand) for hand in process.in_hand)
        if process.condition is Condition.SILENT:
            around.still.update((hand.id, process.silence) for hand in process.in_hand)
    try:
        response = client.ask(run_directory, "queues")
    except Unreachable as unreachable:
        around.silence = str(unreachable)
        return around
    if response.status != 0:
        around.silence = response.text
    else:
        around.news = response.text
    for line in response.lines:
        around.queues[text_of(line, "NextHop")] = queue_state(line)
    return around


def hidden(spool: Path) -> bool:
    """Whether this user may not see the status files: that none is found then says nothing about kmqd."""
    try:
        os.listdir(spool / "status")
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def inquire(around: Circumstances, run_directory: Path, ids: Sequence[str]) -> None:
    """Adds what the scheduler says of a few messages; nothing when kmqd was silent before."""
    if around.silence:
        return
    try:
        response = client.ask(run_directory, "message", {"ids": list(ids)})
    except Unreachable as unreachable:
        around.silence = str(unreachable)
        return
    for line in response.lines:
        key = text_of(line, "ID"), text_of(line, "NextHop")
        around.statuses[key] = text_of(line, "Status")
        if line.get("Alone") is True:
            around.alone.add(key)


def queue_state(line: Mapping[str, object]) -> QueueState:
    """One line of the answer to `queues`."""
    try:
        next_retry = moment.from_text(text_of(line, "NextRetryTime"))
    except ValueError:
        next_retry = 0.0
    return QueueState(
        text_of(line, "Status"),
        text_of(line, "LastError"),
        next_retry,
        _count(line, "RetryCount"),
        text_of(line, "HeldBy"),
        text_of(line, "Why"),
        _count(line, "MessageCount"),
        line,
    )


def _count(line: Mapping[str, object], name: str) -> int:
    found = line.get(name)
    return found if isinstance(found, int) else 0


def text_of(line: Mapping[str, object], name: str) -> str:
    """A property as text, "" when it is missing or null."""
    value = line.get(name)
    return "" if value is None else str(value)
