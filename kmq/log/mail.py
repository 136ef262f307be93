"""The mail log: what happened to mail, in words and keys that never change. kmq-log(5)

Shape:    `word ID key=value ...`; the keys of a word stand in the order of KEYS, and those without a value are left
          out. Addresses stand in <>, times of day in UTC, durations in seconds.
Promise:  a line tells of nothing that is not durable. One line for each recipient's result. Never raises.
On crash: lines of the last 50 ms are lost with a killed process; none is written twice for one durable result.
Callers:  whoever hears that something is durable: receivers (accepted, refused), workers (results), the scheduler
          process (the rest). `kmq report` reads it, with the same tables.
"""

from collections.abc import Mapping
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
    "queue": "The queue (next hop), as kmq queues shows it.",
    "attempt": "The number of this attempt for this recipient.",
    "until": "When it is tried next.",
    "notice": "The ID of the report to the sender (DSN).",
    "child": "The ID of the message that goes on in its place.",
    "parent": "The ID of the message that this one was made for.",
    "client": "The address of the client.",
    "helo": "The name by which the client introduced itself.",
    "proto": "How it came in: smtp, sendmail, pickup, dsn, ...",
    "user": "The user on whose word it came.",
    "receiver": "The section of the configuration that took it in.",
    "size": "Bytes of the message.",
    "nrcpt": "How many recipients.",
    "rcpt": "Recipients by their places in the envelope, where the addresses are not at hand.",
    "by": "Who asked for it, as the kernel says.",
    "reason": "Why.",
}


class Word(NamedTuple):
    """What a line is about. level: of syslog and journald; keys: in the order of KEYS."""

    means: str
    keys: tuple[str, ...]
    level: int = INFO


_RESULT = (
    "from", "to", "orig_to", "relay", "tls", "delay", "delays", "dsn", "status", "reply", "queue", "attempt", "until",
    "notice", "child", "size", "nrcpt", "rcpt",
)  # fmt: skip

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
            "client",
            "helo",
            "proto",
            "user",
            "receiver",
            "size",
            "nrcpt",
            "reason",
        ),
    ),
    "refused": Word(
        "A client heard a refusal.",
        ("from", "to", "tls", "dsn", "reply", "client", "helo", "proto", "user", "receiver", "size", "nrcpt"),
    ),
    "delivered": Word("A recipient has it: the next hop took responsibility.", _RESULT),
    "deferred": Word("A recipient has it not yet: it is tried again.", _RESULT),
    "failed": Word("A recipient was refused for good.", _RESULT),
    "expired": Word("A recipient was given up: the message's lifetime is over.", _RESULT),
    "expanded": Word("A recipient was an alias: another message goes on in its place.", _RESULT),
    "delayed": Word("The sender was told that a recipient has it not yet.", _RESULT),
    "notice": Word(
        "A report to a sender (DSN) was made and queued.",
        ("from", "to", "parent", "proto", "size", "nrcpt"),
    ),
    "unavailable": Word(
        "A next hop could not be reached; all that waits for it is tried later.",
        ("dsn", "reply", "queue", "attempt", "until"),
    ),
    "poison": Word("A message was set aside in poison/.", ("reason",), WARNING),
    "removed": Word("An operator took a message out of the queue.", ("by", "reason")),
    "suspend": Word("An operator holds a message.", ("by", "reason")),
    "resume": Word("An operator lets a message go on.", ("by", "reason")),
    "suspend-queue": Word("An operator holds a queue.", ("queue", "by", "reason")),
    "resume-queue": Word("An operator lets a queue go on.", ("queue", "by", "reason")),
    "retry": Word("An operator asked for an attempt now.", ("queue", "by")),
    "flush": Word("An operator asked for an attempt of everything now.", ("by",)),
    "tls-failed": Word("A client's STARTTLS failed.", ("client", "reason")),
}

#: Keys whose values are addresses.
_ADDRESSES = frozenset({"from", "to", "orig_to"})


def tell(word: str, queue_id: str = "", /, keys: Mapping[str, Value] | None = None, **more: Value) -> None:
    """`tell("removed", id, by="uid 0", reason="spam")`; `from` is no name in Python, so it comes in `keys`.

    What has no place in the line of this word stands at its end rather than nowhere.
    """
    found = WORDS[word]
    lines = log.mail_lines()
    if not lines.says(found.level):
        return
    said = {**keys, **more} if keys else more
    text = f"{word} {queue_id}" if queue_id else word
    count = 0
    for key in found.keys:
        value = said.get(key)
        if value is not None:
            count += 1
            text += f" {key}={value}" if type(value) is int else f" {key}={_shown(key, value)}"
    if count < len(said):
        text += "".join(
            f" {key}={shown(value)}" for key, value in said.items() if key not in found.keys and value is not None
        )
    lines.add(found.level, text)


def _shown(key: str, value: str | int | float) -> str:
    return shown(f"<{value}>") if key in _ADDRESSES else shown(value)


def seconds(duration: float) -> str:
    """A duration as lines have it: `0.012`, `12.3`, `86412`."""
    return f"{duration:.0f}" if duration >= 1000 else f"{round(duration, 3):g}"
