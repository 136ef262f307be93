"""`kmq rules`: the server rules, and which of them would do what with a message.

Promise:  looks only: nothing of what rules would do is done. Exit status 0 when there are rules, or one applies.
Callers:  kmq.cli.kmq.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from kmq import log
from kmq.admin.rules_trial import Sample, Trial, Tried, of_queue, of_text, trial, with_envelope
from kmq.cli.call import DONE, REFUSED, USAGE, Call
from kmq.cli.parser import identity
from kmq.model import queue_id
from kmq.phases.body import BodyDamaged
from kmq.phases.rules import Rule, rules_of
from kmq.spool.look import Found, find
from kmq.view.words import counted, harmless

#: Bytes of a message that is tried.
_LONGEST = 256 << 20


def run(call: Call) -> int:
    """The verb."""
    log.start("kmq", "error")
    asked = call.arguments
    if asked.what == "list":
        if asked.message is not None or asked.sender is not None or asked.to:
            call.warn("a message and its envelope are for kmq rules test")
            return USAGE
        return _list(call)
    if asked.message is None:
        call.warn("name the message to be tried: a file, - for standard input, or an ID of the queue")
        return USAGE
    return _test(call, asked.message)


# --- the rules -------------------------------------------------------------------------------------------------------


def _list(call: Call) -> int:
    rules = call.settings.rules
    if call.json:
        call.tell_objects(_described(rule) for rule in rules_of(call.settings))
    elif rules:
        call.tell(map(harmless, _listed(call)))
    if not rules:
        call.warn("there are no server rules: a section [NAME : rule] makes one, see kmq-rules(5)")
        return REFUSED
    return DONE


def _listed(call: Call) -> Iterator[str]:
    for place, one in enumerate(call.settings.rules):
        if place:
            yield ""
        where = call.settings.origin(one.name, "").place
        yield f"{one.name} ({where}){'' if one.enabled else ', switched off'}"
        if one.description:
            yield f"  {one.description}"
        yield f"  {'for':5} {_FOR[one.apply]}"
        joint = "and" if one.match == "all" else "or"
        yield from _rows("when", [condition.written for condition in one.condition], joint)
        yield from _rows("do", [action.written for action in one.action], "")


_FOR = {"all": "all recipients", "incoming": "recipients here", "outgoing": "recipients elsewhere"}


def _rows(title: str, rows: list[str], joint: str) -> Iterator[str]:
    for place, row in enumerate(rows):
        yield f"  {joint if place else title:5} {row}"


def _described(rule: Rule) -> dict[str, object]:
    section = rule.section
    return {
        "Rule": section.name,
        "Place": rule.place,
        "Description": section.description or None,
        "Apply": section.apply,
        "Match": section.match,
        "Conditions": [one.written for one in section.condition],
        "Actions": [one.written for one in section.action],
    }


# --- a trial ---------------------------------------------------------------------------------------------------------


def _test(call: Call, name: str) -> int:
    try:
        sample = _sample(call, name)
        found = trial(call.settings, sample) if sample else None
    except (ValueError, BodyDamaged) as wrong:
        call.warn(str(wrong))
        return REFUSED
    except OSError as error:
        call.warn(f"{name}: cannot be read: {error.strerror}")
        return REFUSED
    if found is None:
        return REFUSED
    if call.json:
        call.tell_objects(_object(one) for one in found.tried)
    else:
        call.tell(map(harmless, _told(found)))
    if not found.tried:
        call.warn("there are no server rules that are switched on")
    return DONE if any(one.recipients for one in found.tried) else REFUSED


def _sample(call: Call, name: str) -> Sample | None:
    """None when there is no such message, which has been said."""
    asked = call.arguments
    if not queue_id.PATTERN.fullmatch(name.rpartition("\\")[2]):
        return of_text(_read(name), asked.sender, asked.to)
    wanted = identity(name).id
    found = find(call.settings.kmq.spool, queue_id.parse(wanted))
    if not isinstance(found, Found):
        call.warn(f"{wanted}: {found.reason if found else 'there is no such message in the queue'}")
        return None
    return with_envelope(of_queue(found), asked.sender, asked.to)


def _read(name: str) -> bytes:
    if name == "-":
        text = sys.stdin.buffer.read(_LONGEST + 1)
    else:
        with Path(name).open("rb") as file:
            text = file.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        raise ValueError(f"{name}: it is larger than {_LONGEST >> 20}M")
    return text


def _told(found: Trial) -> Iterator[str]:
    head = found.sample.head
    to = [head.recipients[index].address for index in found.sample.rcpt]
    shown = ", ".join(to[:5]) + (f" and {len(to) - 5} more" if to[5:] else "")
    yield f"from <{head.sender}> to {shown}, {counted(head.size, 'byte')}"
    if found.note:
        yield f"not all could be seen: {found.note}"
    for one in found.tried:
        yield from _of_rule(one, len(to))


def _of_rule(one: Tried, recipients: int) -> Iterator[str]:
    whom = "all recipients" if len(one.recipients) == recipients > 1 else ", ".join(one.recipients)
    says = (
        f"applies to {whom}"
        if whom
        else "is not asked: nobody is left whom it is about"
        if one.over
        else "does not apply"
    )
    yield ""
    yield f"{one.rule.name} {says}"
    for answer in one.answers:
        met = "yes" if answer.met == answer.of else f"for {answer.met} of {answer.of}" if answer.met else "no"
        yield f"  {answer.condition}: {met}"
    if whom:
        yield from (f"  -> {action}" for action in one.actions)


def _object(one: Tried) -> dict[str, object]:
    return {
        "Rule": one.rule.section.name,
        "Place": one.rule.place,
        "Applies": bool(one.recipients),
        "Recipients": list(one.recipients),
        "Conditions": [{"Condition": each.condition, "MetBy": each.met, "Of": each.of} for each in one.answers],
        "Actions": list(one.actions) if one.recipients else [],
    }
