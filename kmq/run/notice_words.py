"""The part of a notice for people: what happened, to whom, what was done, what the sender can do.

Promise:  pure; plain words of one language (kmq.languages), each address and reply as it was.
Callers:  run.notices.
"""

from collections.abc import Iterable, Sequence
from textwrap import TextWrapper

from kmq.languages.wording import ELSE, Wording
from kmq.model import moment
from kmq.model.envelope import Head
from kmq.run.notice import Action, Lost, Office
from kmq.run.notice_parts import text_part

_fill = TextWrapper(break_long_words=False, break_on_hyphens=False).fill
_indent = TextWrapper(
    initial_indent="    ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
).fill

#: Subject and detail of enhanced codes, as they stand in Wording.advice.
_FULL, _LOOP, _EXPIRED, _POLICY = "2.2", "4.6", "4.7", "7.1"


def subject(action: Action, words: Wording) -> str:
    """What a notice about this is called."""
    return {
        Action.FAILED: words.subject_failed,
        Action.DELAYED: words.subject_delayed,
        Action.DELIVERED: words.subject_delivered,
        Action.RELAYED: words.subject_passed_on,
        Action.EXPANDED: words.subject_passed_on,
    }[action]


def part(head: Head, lost: Sequence[Lost], office: Office, words: Wording, copied: bool) -> bytes:
    """The first part of a notice. copied: it goes to the postmaster, in place of a sender."""
    action = lost[0].action
    blocks = [_fill(_opening(head, office, action, words, copied))]
    blocks += [f"<{one.recipient.address}>\n{_what_happened(one, words)}" for one in lost]
    if action is Action.FAILED and not copied:
        blocks.append(_fill(words.advised.format(advice=_advice(lost, words))))
    if action is Action.DELAYED and office.until:
        blocks.append(_fill(words.until.format(date=_date(moment.as_text(office.until), words))))
    closing = words.closing_copy if copied else words.closing
    blocks.append(_fill(closing.format(server=office.hostname, id=head.id)))
    text = "\n\n".join(blocks) + "\n"
    return text_part("text/plain", text.encode("utf-8", "backslashreplace"), words.notice, words.code)


def _opening(head: Head, office: Office, action: Action, words: Wording, copied: bool) -> str:
    if copied:
        beginning = words.notice_lost if head.parent else words.message_lost
        return beginning.format(server=office.hostname, parent=head.parent)
    beginning = {
        Action.FAILED: words.failed,
        Action.DELAYED: words.delayed,
        Action.DELIVERED: words.delivered,
        Action.RELAYED: words.passed_on,
        Action.EXPANDED: words.passed_on,
    }[action]
    return beginning.format(server=office.hostname, date=_date(head.created, words))


def _what_happened(lost: Lost, words: Wording) -> str:
    said = {"host": lost.host, "reply": str(lost.reply), "span": _span(lost.tried, words)}
    return "\n".join(_indent(line.format(**said)) for line in _sentence(lost, words).split("\n"))


def _sentence(lost: Lost, words: Wording) -> str:
    if lost.action is Action.DELIVERED:
        return words.in_mailbox
    if lost.action is Action.RELAYED:
        return words.relayed
    if lost.action is Action.EXPANDED:
        return words.expanded
    last = words.last_answer_of if lost.host else words.last_answer
    if lost.action is Action.DELAYED:
        return f"{words.waiting} {last}"
    if lost.tried:
        return f"{words.gave_up} {last}"
    return words.refused if lost.host else words.own_answer


def _span(seconds: float, words: Wording) -> str:
    """`5 days`, `36 hours`, `10 minutes`."""
    units = ((86400, words.days), (3600, words.hours), (60, words.minutes))
    length, names = next(one for one in units if seconds >= 2 * one[0] or one is units[-1])
    number = max(1, int(seconds // length))
    return f"{number} {names[number > 1]}"


def _date(text: str, words: Wording) -> str:
    """A time as envelopes have it, the way it is written in this language."""
    return words.date.format(year=text[:4], month=text[5:7], day=text[8:10], time=text[11:16])


def _advice(lost: Iterable[Lost], words: Wording) -> str:
    found = dict.fromkeys(words.advice.get(_trouble(one)) or words.advice[ELSE] for one in lost)
    return " ".join(found)


def _trouble(lost: Lost) -> str:
    """Subject and detail; many servers have no code of its own for a loop."""
    said = lost.reply.status.partition(".")[2]
    if lost.tried:
        return said if said == _FULL else _EXPIRED
    if "too many hops" in lost.reply.text.lower():
        return _LOOP
    if said == _POLICY and not lost.host:
        return ELSE  # it is our own policy: no server there has refused anything
    return said
