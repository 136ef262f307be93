"""The verbs: what an operator may ask of a running kmqd, with which arguments, and what the answer looks like.

Shape:    a verb has arguments by name. Those that act on messages name them by exactly one of `ids` (a list of IDs),
          `queue` (the name of a queue, or the whole text of its next hop) and `all`. An answer is lines (objects by
          name) and at last a status (as exit status) and a sentence for people.
Law:      this table is all there is; client and server check against it, so that the scheduler process never sees
          an argument of the wrong kind, nor an ID that is none.
Callers:  kmq.admin.client, kmq.admin.control, kmq.cli; run/queue carries the verbs out.
"""

from collections.abc import Mapping
from typing import NamedTuple

from kmq.model import queue_id

Argument = str | int | bool | list[str]
Arguments = Mapping[str, Argument]

#: Exit statuses that an answer may have: done; nothing matched or refused; wrong usage; not now.
DONE, REFUSED, USAGE, NOT_NOW = 0, 1, 2, 75

#: Characters of a reason, which is kept in the envelope of each message.
REASON_LIMIT = 500

#: IDs in one question; who has more asks again.
IDS_LIMIT = 10_000


class Form(NamedTuple):
    """target: it needs exactly one of ids, queue, all; reason: it takes one; ids: it needs ids and nothing else."""

    target: bool = False
    reason: bool = False
    ids: bool = False


VERBS: dict[str, Form] = {
    # One line per queue: Identity, NextHopDomain, NextHopConnector, NextHop (its text), DeliveryType, Status,
    # MessageCount, NextRetryTime (RFC 3339 or null), LastError (or null), RetryCount.
    "queues": Form(),
    # The state of messages in the scheduler's eyes, one line per message and queue: ID, Queue, NextHop, Status,
    # Recipients (a set, as `0-2,5`), NextRetryTime, RetryCount, LastError. An ID that nobody knows has no line.
    "message": Form(ids=True),
    # The next attempt is made now.
    "retry": Form(target=True),
    # All queues: the next attempt of everything that waits is made now.
    "flush": Form(),
    # How many messages are over their time, one line per queue: Queue, Overdue; and the word that they may be given up
    # although they are many (run/brake).
    "overdue": Form(),
    "expire": Form(),
    # One line per message: ID, Result: `removed`, or `pending` when it is in somebody's hands. No report is sent.
    "remove": Form(target=True, reason=True),
    # Messages (or the queue, when it is named) are held, or let go on; a message out of poison/ is tried once more.
    "suspend": Form(target=True, reason=True),
    "resume": Form(target=True, reason=True),
    # The configuration is read again. Lines: Option and Counts (`now`, `after a restart`); Warning; Problem; Waiting.
    "reload": Form(),
    # The files of the queue are brought up to the journal: all that was accepted before the word is in them.
    "settle": Form(),
    # New mail is told to come later (421), or is welcome again; what is queued goes on.
    "stop-intake": Form(reason=True),
    "start-intake": Form(reason=True),
}


def trouble(verb: str, arguments: Arguments) -> str:
    """What is wrong with a question, for people; "" when it is well formed."""
    form = VERBS.get(verb)
    if form is None:
        return f"there is no verb {verb[:40]!r}; there are {', '.join(VERBS)}"
    allowed = {"ids"} if form.ids else {"ids", "queue", "all"} if form.target else set()
    allowed |= {"reason"} if form.reason else set()
    strange = sorted(set(arguments) - allowed)
    if strange:
        return f"{verb} takes no argument {strange[0][:40]!r}"
    for name, argument in arguments.items():
        problem = _KINDS[name](argument)
        if problem:
            return problem
    given = [name for name in ("ids", "queue", "all") if name in arguments]
    if form.target and len(given) != 1:
        return f"{verb} needs IDs, a queue, or all: exactly one of them"
    if form.ids and not given:
        return f"{verb} needs IDs"
    return ""


def _ids(argument: Argument) -> str:
    if not isinstance(argument, list) or not 0 < len(argument) <= IDS_LIMIT:
        return f"ids is a list of 1 to {IDS_LIMIT} IDs"
    for one in argument:
        if not queue_id.PATTERN.fullmatch(one):
            return f"{one[:40]!r} is not a queue ID (like 69212ad0-0000a1f3)"
    return ""


def _queue(argument: Argument) -> str:
    good = isinstance(argument, str) and 0 < len(argument) <= 1000
    return "" if good else "queue is the name of a queue (kmq queues shows them)"


def _all(argument: Argument) -> str:
    return "" if argument is True else "all is true or left out"


def _reason(argument: Argument) -> str:
    good = isinstance(argument, str) and len(argument) <= REASON_LIMIT
    return "" if good else f"reason is a text of at most {REASON_LIMIT} characters"


_KINDS = {"ids": _ids, "queue": _queue, "all": _all, "reason": _reason}
