"""The mail log: what happened to mail, in words and keys that never change. kmq-log(5)

Shape:    `word ID key=value ...`; the keys of a word stand in the order of KEYS, and those without a value are left
          out. Addresses stand in <>, times of day in UTC, durations in seconds.
Promise:  a line tells of nothing that is not durable. One line for each recipient's result. Never raises.
On crash: lines of the last 75 ms are lost with a killed process; none is written twice for one durable result.
Callers:  whoever hears that something is durable: receivers (accepted, refused), workers (results), the scheduler
          process (the rest). `kmq report` reads it, with the same tables.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from kmq import log
from kmq.log.lines import Value
from kmq.log.outlet import INFO, WARNING
from kmq.log.text import shown

#: Every key, in the order in which they stand in a line, and what it says.
KEYS: dict[str, str] = {
    "from": "The sender of the envelope; <> is the null sender of reports.",
    "to": "The recipient of the envelope.",
    "orig_to": "The recipient as it was before an alias made another of it.",
    "relay": "The server that said it, as host[address]:port; local for a mailbox of this machine.",
    "tls": "Protocol and cipher of the connection, and whether the server was verified.",
    "delay": "Seconds from the beginning of the message's way in to this result.",
    "delays": "The same in parts: a/b/c/d, where a is the time before it was queued, b in the queue, c until a"
    " connection was there, d the transmission.",
    "dsn": "The enhanced status code of the reply (RFC 3463).",
    "status": "What became of it: sent, deferred, bounced or expired.",
    "reply": "The reply, ours or the other server's.",
    "phase": "The phase of the message, as kmq processes names it.",
    "queue": "The queue (next hop), as kmq queues shows it.",
    "attempt": "The number of this attempt for this recipient.",
    "until": "When it is tried next.",
    "held": "Why a failure for good is held instead of returned: the cause of a grace hold.",
    "notice": "The ID of the report to the sender (DSN).",
    "child": "The ID of the message that goes on in its place.",
    "parent": "The ID of the message that this one was made for.",
    "msgid": "The Message-ID of the header.",
    "client": "The address of the client.",
    "helo": "The name by which the client introduced itself.",
    "proto": "How it came in: smtp, sendmail, pickup, dsn, ...",
    "user": "The user on whose word it came.",
    "receiver": "The section of the configuration that took it in.",
    "file": "The file of a drop directory, by the name under which it was dropped.",
    "size": "Bytes of the message.",
    "nrcpt": "How many recipients.",
    "rcpt": "Recipients by their places in the envelope, where the addresses are not at hand.",
    "node": "What a client asked for with ETRN: a domain, @ and a domain, or # and a queue.",
    "verb": "What an operator asked for, a verb of kmq(1).",
    "connector": "The connector by which it is to go.",
    "selection": "How the messages were chosen, as the operator wrote it.",
    "count": "How many messages, or parts of messages in one queue, an operator named.",
    "done": "How many of them it was done to.",
    "pending": "How many were in somebody's hands: it is done when that ended.",
    "gone": "How many were not there any more.",
    "skipped": "How many were left as they are, for a reason that the operator heard.",
    "exit": "The exit status of the answer; 0 is done.",
    "by": "Who asked for it, as the kernel says; or which rule or scanner.",
    "reason": "Why.",
}


class Word(NamedTuple):
    """What a line is about. level: of syslog and journald; keys: in the order of KEYS."""

    means: str
    keys: tuple[str, ...]
    level: int = INFO


_RESULT = (
    "from", "to", "orig_to", "relay", "tls", "delay", "delays", "dsn", "status", "reply", "queue", "attempt", "until",
    "held", "notice", "child", "size", "nrcpt", "rcpt", "by", "reason",
)  # fmt: skip

#: What an operator did to one message; without rcpt to all of it.
_DEED = ("rcpt", "by", "reason")

#: Every word of the mail log.
WORDS: dict[str, Word] = {
    "accepted": Word(
        "A message was taken in: it is durable, and the client hears 250.",
        (
            "from",
            "to",
            "tls",
            "delay",
            "parent",
            "msgid",
            "client",
            "helo",
            "proto",
            "user",
            "receiver",
            "file",
            "size",
            "nrcpt",
            "reason",
        ),
    ),
    "bad-file": Word(
        "A dropped file cannot be a message, and was set aside as .bad.", ("proto", "user", "file", "reason"), WARNING
    ),
    "refused": Word(
        "A client heard a refusal.",
        ("from", "to", "tls", "dsn", "reply", "client", "helo", "proto", "user", "receiver", "size", "nrcpt"),
    ),
    "etrn": Word(
        "A client asked for the mail that waits for a domain (ETRN); with relay, we asked that server for ours.",
        ("relay", "tls", "reply", "client", "helo", "proto", "receiver", "node"),
    ),
    "delivered": Word("A recipient has it: the next hop took responsibility.", _RESULT),
    "deferred": Word("A recipient has it not yet: it is tried again.", _RESULT),
    "failed": Word("A recipient was refused for good.", _RESULT),
    "expired": Word("A recipient was given up: the message's lifetime is over.", _RESULT),
    "expanded": Word("A recipient was an alias: another message goes on in its place.", _RESULT),
    "delayed": Word("The sender was told that a recipient has it not yet.", _RESULT),
    "passed": Word(
        "A phase ahead of routing found something, or changed or sent something.", ("phase", "child", "by", "reason")
    ),
    "discarded": Word("A rule or a scanner drops a recipient; nobody is told.", _RESULT),
    "replaced": Word("A recipient goes on with another message, whose text or sender a phase has changed.", _RESULT),
    "held": Word("A phase holds a recipient until an operator says otherwise.", _RESULT),
    "notice": Word(
        "A report to a sender (DSN) was made and queued.",
        ("from", "to", "parent", "proto", "size", "nrcpt"),
    ),
    "unavailable": Word(
        "A next hop could not be reached; all that waits for it is tried later.",
        ("dsn", "reply", "queue", "attempt", "until"),
    ),
    "poison": Word("A message was set aside in poison/.", ("reason",), WARNING),
    "removed": Word("An operator took a message, or these recipients of it, out of the queue.", _DEED),
    "suspend": Word("An operator holds a message, or these recipients.", _DEED),
    "resume": Word("An operator lets a message, or these recipients, go on.", _DEED),
    "resubmit": Word("An operator sent recipients back through the categorizer.", _DEED),
    "redirect": Word("An operator gave recipients to another connector.", ("rcpt", "connector", "by", "reason")),
    "export": Word("An operator wanted a copy of a message.", _DEED),
    "suspend-queue": Word("An operator holds a queue.", ("queue", "by", "reason")),
    "resume-queue": Word("An operator lets a queue go on.", ("queue", "by", "reason")),
    "replay": Word(
        "An operator had a delivered message, which is kept in sent/, sent once more, as the message `child`.",
        ("child", "connector", "by", "reason"),
    ),
    "retry": Word("An operator asked for an attempt now.", ("queue", "rcpt", "by", "reason")),
    "flush": Word("An operator asked for an attempt of everything now.", ("by", "reason")),
    "operator": Word(
        "An operator asked for something that changes mail or kmqd, and what came of it: one line for all of the"
        " messages of one command. What was done to each stands in its envelope.",
        (
            "queue",
            "verb",
            "connector",
            "selection",
            "count",
            "done",
            "pending",
            "gone",
            "skipped",
            "exit",
            "by",
            "reason",
        ),
    ),
    "tls-failed": Word("A client's STARTTLS failed.", ("client", "reason")),
}


class Besides(NamedTuple):
    """What the tracking log has beyond a line. recipients: all of them; subject: as it stands in the header."""

    recipients: Sequence[str] = ()
    subject: str = ""


NOTHING = Besides()

#: The tracking log, where there is one (`kmq.log.tracking`): hears what is told here.
tracker: Callable[[str, str, Mapping[str, Value], Besides], None] | None = None

#: Keys whose values are addresses.
_ADDRESSES = frozenset({"from", "to", "orig_to"})


def tell(
    word: str,
    queue_id: str = "",
    /,
    keys: Mapping[str, Value] | None = None,
    besides: Besides = NOTHING,
    **more: Value,
) -> None:
    """`tell("removed", id, by="uid 0", reason="spam")`; `from` is no name in Python, so it comes in `keys`.

    What has no place in the line of this word stands at its end rather than nowhere.
    """
    found = WORDS[word]
    said = {**keys, **more} if keys else more
    if tracker is not None:
        tracker(word, queue_id, said, besides)
    if not log.mail_lines().says(found.level):
        return
    ordered = {key: said[key] for key in found.keys if key in said}
    say(word, queue_id, pairs(ordered if len(ordered) == len(said) else ordered | said))


def say(word: str, queue_id: str, text: str) -> None:
    """A line whose pairs were made before, in the order of KEYS."""
    log.mail_lines().add(WORDS[word].level, f"{word} {queue_id}{text}" if queue_id else f"{word}{text}")


def pairs(said: Mapping[str, Value]) -> str:
    """` key=value` for each that has a value, in the order in which they come."""
    text = ""
    for key, value in said.items():
        if type(value) is int:
            text += f" {key}={value}"
        elif value is not None:
            text += f" {key}={shown(value)}" if key not in _ADDRESSES else f" {key}={shown(f'<{value}>')}"
    return text


def seconds(duration: float) -> str:
    """A duration as lines have it: `0.012`, `86412.250`."""
    return f"{duration:.3f}"


def status_of(reply: str) -> str:
    """The enhanced code of a reply's text, or the least specific one that its code allows (RFC 3463)."""
    return _status_of(reply[:_CODES])


@lru_cache(1024)
def _status_of(reply: str) -> str:
    """The same of the codes that a reply begins with: few, and again and again."""
    code = reply[4 : reply.find(" ", 4)] if " " in reply[4:] else reply[4:]
    if code[:1] == reply[:1] and code.count(".") == 2 and code.replace(".", "").isdecimal():
        return code
    return f"{reply[:1]}.0.0" if reply[:1] in "245" and reply[:3].isdecimal() else "4.0.0"


#: Characters of `550 5.123.123 `.
_CODES = 14
