"""The part of a notice for people: what happened, to whom, what was done, what the sender can do.

Promise:  pure; plain words, each address and reply as it was.
Callers:  run.notices.
"""

from collections.abc import Iterable, Sequence
from email.utils import formatdate
from textwrap import fill

from kmq.model.envelope import Head
from kmq.run.notice import Action, Lost, Office
from kmq.run.notice_parts import text_part

SUBJECTS = {
    Action.FAILED: b"Your message could not be delivered",
    Action.DELAYED: b"Your message is delayed, but not lost",
    Action.DELIVERED: b"Your message was delivered",
    Action.RELAYED: b"Your message was passed on",
    Action.EXPANDED: b"Your message was passed on",
}

_OPENING = {
    Action.FAILED: "could not be delivered to the recipients below, and is not tried again for them. Whoever is not"
    " named here is not concerned.",
    Action.DELAYED: "has not been delivered yet to the recipients below. It is tried again by itself: you need not do"
    " anything, and least of all send it again.",
    Action.DELIVERED: "was delivered, as you wished to be told:",
    Action.RELAYED: "was delivered, as you wished to be told:",
    Action.EXPANDED: "was delivered, as you wished to be told:",
}


def part(head: Head, lost: Sequence[Lost], office: Office, postmaster: str) -> bytes:
    """The first part of a notice; postmaster: who gets it in place of a sender, or ""."""
    action = lost[0].action
    blocks = [fill(_for_the_postmaster(head, office) if postmaster else _for_the_sender(head, office, action))]
    for one in lost:
        blocks.append(f"<{one.recipient.address}>\n" + _indented(_what_happened(one)))
    if action is Action.FAILED and not postmaster:
        blocks.append(fill("What you can do: " + _advice(lost)))
    if action is Action.DELAYED and office.until:
        blocks.append(fill(f"It is tried until {formatdate(office.until)}; if that is in vain, you will be told."))
    blocks.append(fill(_closing(head, office, postmaster)))
    text = "\n\n".join(blocks) + "\n"
    return text_part("text/plain", text.encode("utf-8", "backslashreplace"), "Notification")


def _for_the_sender(head: Head, office: Office, action: Action) -> str:
    return f"This is the mail server {office.hostname}. Your message of {_day(head.created)} {_OPENING[action]}"


def _for_the_postmaster(head: Head, office: Office) -> str:
    what = "A notice of this server about the message " + head.parent if head.parent else "A message without sender"
    return (
        f"This is the mail server {office.hostname}. {what} could not be delivered to the recipients below. Nobody else"
        " may be told of it, so this copy goes to you, and nothing further is done."
    )


def _closing(head: Head, office: Office, postmaster: str) -> str:
    if postmaster:
        return f"What there is of it follows below; the log tells the rest under its ID {head.id}."
    return (
        "Your message or its header follows below, and before it the same for programs. If you ask somebody about this,"
        f" name the message's ID at {office.hostname}: {head.id}"
    )


def _what_happened(lost: Lost) -> str:
    by = f" of the server {lost.host}" if lost.host else ""
    if lost.action is Action.DELIVERED:
        return "It is in the mailbox."
    if lost.action is Action.RELAYED:
        return (
            f"The server {lost.host} has taken it on, with the answer: {lost.reply}\nThat server sends no notices of"
            " this kind, so you will hear no more unless it fails."
        )
    if lost.action is Action.EXPANDED:
        return "This is an alias of several addresses, and the message goes on to all of them."
    if lost.action is Action.DELAYED:
        return f"Not delivered for {_span(lost.tried)} now. The last answer{by} was: {lost.reply}"
    if lost.tried:
        return f"We tried for {_span(lost.tried)} and gave up. The last answer{by} was: {lost.reply}"
    if lost.host:
        return f"The server {lost.host} answered: {lost.reply}"
    return f"Our own server says: {lost.reply}"


_SPANS = ((86400, "day"), (3600, "hour"), (60, "minute"))


def _span(seconds: float) -> str:
    """`5 days`, `36 hours`, `10 minutes`."""
    length, unit = next(one for one in _SPANS if seconds >= 2 * one[0] or one is _SPANS[-1])
    number = max(1, int(seconds // length))
    return f"{number} {unit}{'s' * (number > 1)}"


def _indented(text: str) -> str:
    return fill(text, initial_indent="    ", subsequent_indent="    ", break_long_words=False)


#: Subject and detail of an enhanced code (RFC 3463) -> what the sender can do.
_ADVICE = {
    "1.1": "check the address for spelling mistakes; there is no such mailbox",
    "1.2": "check what stands behind the @; there is no such mail domain",
    "1.3": "check the address; it is not written as mail addresses are",
    "1.10": "use another address; this domain takes no mail",
    "2.2": "try again later, or reach the recipient in another way; the mailbox is full",
    "3.4": "send a smaller message, or put the large part where the recipient can fetch it",
    "2.3": "send a smaller message, or put the large part where the recipient can fetch it",
    "4.6": "show this notice to your postmaster; the message went round between servers in a mail loop",
    "4.7": "send it again; the server could not be reached for as long as we tried",
    "6.7": "use an address without international characters, if the recipient has one",
    "7.1": "ask the recipient in another way; the server there refused your message",
}
_OTHERWISE = "read the answer above; if it tells you nothing, show this notice to your postmaster"


def _advice(lost: Iterable[Lost]) -> str:
    found = dict.fromkeys(_ADVICE.get(_trouble(one), _OTHERWISE) for one in lost)
    return "; ".join(found) + "."


def _trouble(lost: Lost) -> str:
    """Subject and detail; many servers have no code of its own for a loop."""
    if not lost.tried and "too many hops" in lost.reply.text.lower():
        return "4.6"
    return lost.status.partition(".")[2]


def _day(created: str) -> str:
    return f"{created[:10]} {created[11:16]} UTC"
