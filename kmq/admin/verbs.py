"""The verbs: what an operator may ask of a running kmqd, with which arguments, and what the answer looks like.

Shape:    a verb has arguments by name. Those that act on messages name them by exactly one of `ids`, `queue` (the name
          of a queue, or the whole text of its next hop) and `all`. Each of `ids` is `ID`, the message in all its
          queues, or `HOP\\ID`, those of its recipients that wait for the next hop whose text is HOP.
          An answer is lines (objects by name) and at last a status (as exit status) and a sentence for people. What
          acts on messages answers one line for each: ID (the name as it was given in `ids`), Result (a word of
          model.outcome), and Why, for people, where there is something to say.
Rights:   who may only look asks what is marked so; everything else needs the right to operate.
Law:      this table is all there is; client and server check against it, so that the scheduler process never sees
          an argument of the wrong kind, nor an ID that is none.
Callers:  kmq.admin.client, kmq.admin.control, kmq.cli; run/queue carries the verbs out.
"""

from collections.abc import Mapping
from typing import NamedTuple

from kmq.model import queue_id

Argument = str | int | bool | list[str]
Arguments = Mapping[str, Argument]

#: Characters of a reason, which is kept in the envelope of each message.
REASON_LIMIT = 500
#: Characters of what an operator said to choose messages, for the log.
SELECTION_LIMIT = 1000
#: Characters of a queue's name or of a next hop's text.
QUEUE_LIMIT = 1000

#: IDs in one question; who has more asks again.
IDS_LIMIT = 10_000


class Form(NamedTuple):
    """The arguments of a verb.

    target: it needs exactly one of ids, queue, all; ids: it needs ids and nothing else; kept: it needs ids of messages
    that are kept, and may have connector, again, dsn.
    reason, ndr, connector: it takes one (a connector it needs). looks: it changes nothing.
    """

    target: bool = False
    reason: bool = False
    ids: bool = False
    kept: bool = False
    ndr: bool = False
    connector: bool = False
    looks: bool = False


VERBS: dict[str, Form] = {
    # One line per queue: Identity, NextHopDomain, NextHopConnector, NextHop (its text), DeliveryType, Status,
    # MessageCount, NextRetryTime (RFC 3339 or null), LastError (or null), RetryCount.
    "queues": Form(looks=True),
    # The state of messages in the scheduler's eyes, one line per message and queue: ID, Queue, NextHop, Status,
    # Recipients (a set, as `0-2,5`), NextRetryTime, RetryCount, LastError. An ID that nobody knows has no line.
    "message": Form(ids=True, looks=True),
    # The next attempt is made now.
    "retry": Form(target=True, reason=True),
    # All queues: the next attempt of everything that waits is made now.
    "flush": Form(reason=True),
    # How many messages are over their time, one line per queue: Queue, Overdue; and the word that they may be given up
    # although they are many (run/brake).
    "overdue": Form(looks=True),
    "expire": Form(),
    # Out of the queue for good; `pending` when it is in somebody's hands. ndr: the sender is told (as NOTIFY says).
    "remove": Form(target=True, reason=True, ndr=True),
    # Messages (or the queue, when it is named) are held, or let go on; a message out of poison/ is tried once more.
    "suspend": Form(target=True, reason=True),
    "resume": Form(target=True, reason=True),
    # Back to the categorizer, which routes them by the configuration as it is now. Suspended ones are skipped.
    "resubmit": Form(target=True, reason=True),
    # Recipients go by another connector than routing says, from now on.
    "redirect": Form(target=True, reason=True, connector=True),
    # A copy is about to be made of messages that are held: it is written down who wants it. Lines: `exported` when it
    # may be made, `skipped` when the message is not held (or still in somebody's hands).
    "export": Form(target=True, reason=True),
    # Delivered messages that are kept (`sent/`) go once more to those whom they were delivered to, HOP being the next
    # hop that took them. Lines: ID, Result (`replayed`, `gone`, `skipped`), NewID, Why. again: also to whom they were
    # replayed before; dsn: their senders hear what they asked to hear.
    "replay": Form(reason=True, kept=True),
    # What may run short, one line per resource: Resource, Description, Level, Figure, Unit, the four thresholds, Since.
    "pressure": Form(looks=True),
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
    allowed = _allowed(form)
    strange = sorted(set(arguments) - allowed)
    if strange:
        return f"{verb} takes no argument {strange[0][:40]!r}"
    for name, argument in arguments.items():
        problem = _ids_alone(argument) if form.ids else _KINDS[name](argument)
        if problem:
            return problem
    given = [name for name in ("ids", "queue", "all") if name in arguments]
    if form.target and len(given) != 1:
        return f"{verb} needs IDs, a queue, or all: exactly one of them"
    if (form.ids or form.kept) and not given:
        return f"{verb} needs IDs"
    if form.connector and "connector" not in arguments:
        return f"{verb} needs the name of a connector"
    return ""


def _allowed(form: Form) -> set[str]:
    allowed = {"ids"} if form.ids else {"ids", "queue", "all", "selection"} if form.target else set()
    allowed |= {"ids", "selection", "connector", "again", "dsn"} if form.kept else set()
    allowed |= {name for name in ("reason", "ndr", "connector") if getattr(form, name)}
    return allowed


def split(name: str) -> tuple[str, str]:
    """One of `ids` -> (the text of a next hop, "" for all; the ID)."""
    hop, _, one = name.rpartition("\\")
    return hop, one


def _ids(argument: Argument, scoped: bool = True) -> str:
    if not isinstance(argument, list) or not 0 < len(argument) <= IDS_LIMIT:
        return f"ids is a list of 1 to {IDS_LIMIT} IDs"
    matches = queue_id.PATTERN.fullmatch
    for one in argument:
        if matches(one):
            continue
        hop, behind, name = one.rpartition("\\")
        if not (behind and scoped and matches(name) and 0 < len(hop) <= QUEUE_LIMIT):
            return f"{one[:40]!r} is not a queue ID (like 69212ad0-0000a1f3)"
    return ""


def _ids_alone(argument: Argument) -> str:
    return _ids(argument, scoped=False)


def _queue(argument: Argument) -> str:
    good = isinstance(argument, str) and 0 < len(argument) <= QUEUE_LIMIT
    return "" if good else "queue is the name of a queue (kmq queues shows them)"


def _all(argument: Argument) -> str:
    return "" if argument is True else "all is true or left out"


def _text(name: str, limit: int, argument: Argument) -> str:
    good = isinstance(argument, str) and len(argument) <= limit
    return "" if good else f"{name} is a text of at most {limit} characters"


def _flag(name: str, argument: Argument) -> str:
    return "" if isinstance(argument, bool) else f"{name} is true or false"


def _connector(argument: Argument) -> str:
    good = isinstance(argument, str) and 0 < len(argument) <= QUEUE_LIMIT
    return "" if good else "connector is the name of a connector (a section of the configuration)"


_KINDS = {
    "ids": _ids,
    "queue": _queue,
    "all": _all,
    "reason": lambda argument: _text("reason", REASON_LIMIT, argument),
    "selection": lambda argument: _text("selection", SELECTION_LIMIT, argument),
    "ndr": lambda argument: _flag("ndr", argument),
    "again": lambda argument: _flag("again", argument),
    "dsn": lambda argument: _flag("dsn", argument),
    "connector": _connector,
}
