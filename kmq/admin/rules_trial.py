"""What server rules would do with a message, without doing it: one of the queue, or one of a file.

Promise:  the same engine that workers ask; nothing is sent or changed. What a file does not say (whom it is for by the
          envelope) is taken from its header, as kmq-sendmail does. An examiner is begun only when a rule asks about
          attachments, and works in a folder for temporary files.
Callers:  cli.rules.
"""

import asyncio
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import msgspec

from kmq.config import Settings
from kmq.model.address import NotAnAddress, parse
from kmq.model.envelope import Head, Recipient
from kmq.model.event import HeaderEdit, Passed
from kmq.phases import rules_header
from kmq.phases.examining import Examiners
from kmq.phases.facts import Facts, Trouble
from kmq.phases.rules import Applied, Rule, apply, rules_of
from kmq.phases.rules_deeds import placeholders, spelled
from kmq.phases.rules_header import Header
from kmq.phases.rules_tests import Asked, Look, Need
from kmq.phases.work import Body
from kmq.routing.table import Routes
from kmq.spool.incoming import FOLDER
from kmq.spool.look import Found

#: The step that is tried here, as events name it.
_STEP = "rules"
_NO_ID = "00000000-00000000"


@dataclass(slots=True, frozen=True)
class Sample:
    """A message to try rules on. rcpt: recipients that are meant; edits, score: by what it has been through."""

    head: Head
    body: Body
    rcpt: tuple[int, ...]
    edits: tuple[HeaderEdit, ...] = ()
    score: float | None = None


@dataclass(slots=True, frozen=True)
class Answer:
    """A condition, and by whom it is met: all, none, or some recipients."""

    condition: str
    met: int
    of: int


@dataclass(slots=True, frozen=True)
class Tried:
    """A rule. recipients: whom it applies to, () when it does not; actions: with what is filled in.

    over: nobody is left whom it could be about: `apply` means others, or rules ahead of it have ended them.
    """

    rule: Rule
    recipients: tuple[str, ...]
    answers: tuple[Answer, ...]
    actions: tuple[str, ...]
    over: bool


@dataclass(slots=True, frozen=True)
class Trial:
    """All rules that are switched on, in their order. note: what could not be looked at."""

    sample: Sample
    tried: tuple[Tried, ...]
    note: str


def of_queue(found: Found) -> Sample:
    """A message of the queue, as it came to this step; when it is done already, all its recipients are meant."""
    earlier: list[Passed] = []
    for one in found.state.passed:
        if one.step == _STEP:
            break
        earlier.append(one)
    rcpt = tuple(found.state.open) or tuple(range(len(found.head.recipients)))
    edits = found.head.edits + tuple(edit for one in earlier for edit in one.headers)
    score = next((one.score for one in reversed(earlier) if one.score is not None), None)
    return Sample(found.head, Body(None, str(found.body), found.head.size), rcpt, edits, score)


def of_text(text: bytes, sender: str | None, to: Sequence[str]) -> Sample:
    """A message of a file; sender, to: of the envelope, those of the header when None and (). ValueError says what is
    no address, or that there is no recipient."""
    text = text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    body = Body(text, "", len(text))
    header = rules_header.header_of(body, ())
    written = [address for name in ("to", "cc", "bcc") for address in header.addresses(name) if "@" in address]
    recipients = [_canonical(one) for one in to] or list(dict.fromkeys(written))
    if not recipients:
        raise ValueError("it has no recipient in To, Cc or Bcc: name one with --to")
    if sender is None:
        sender = next((one for one in header.addresses("from") if "@" in one), "")
    head = Head(
        id=_NO_ID,
        sha256=sha256(text).hexdigest(),
        created="",
        sender=_canonical(sender) if sender not in ("", "<>") else "",
        recipients=[Recipient(one) for one in recipients],
        size=len(text),
    )
    return Sample(head, body, tuple(range(len(recipients))))


def _canonical(address: str) -> str:
    try:
        return str(parse(address))
    except NotAnAddress as wrong:
        raise ValueError(f"{address!r} is no mail address: {wrong}") from None


def with_envelope(sample: Sample, sender: str | None, to: Sequence[str]) -> Sample:
    """The same message as if its envelope were another one."""
    head = sample.head
    if sender is not None:
        head = msgspec.structs.replace(head, sender="" if sender == "<>" else _canonical(sender))
    if to:
        recipients = [Recipient(_canonical(one)) for one in to]
        return replace(sample, head=msgspec.structs.replace(head, recipients=recipients), rcpt=tuple(range(len(to))))
    return replace(sample, head=head)


# --- the trial -------------------------------------------------------------------------------------------------------


def trial(settings: Settings, sample: Sample) -> Trial:
    """All rules, tried on a message. OSError when it cannot be read; BodyDamaged when it is not what came."""
    rules, routes = rules_of(settings), Routes(settings)

    def local(address: str) -> bool:
        domain = address.rpartition("@")[2]
        return domain == "" or routes.is_local(domain)

    look, note = _whole_look(settings, sample, rules)
    applied = apply(rules, look, sample.rcpt, local)
    if isinstance(applied, Need):
        return Trial(sample, (), note)
    by_name = {one.rule.section.name: one for one in applied}
    left, tried = list(sample.rcpt), []
    for rule in rules:
        meant = [index for index in left if _meant(rule, sample.head.recipients[index].address, local)]
        mine = by_name.get(rule.section.name)
        tried.append(_tried(rule, mine, look, meant))
        if mine and rule.last:
            left = [index for index in left if index not in mine.rcpt]
    return Trial(sample, tuple(tried), note)


def _meant(rule: Rule, address: str, local: Callable[[str], bool]) -> bool:
    return rule.section.apply == "all" or local(address) is (rule.section.apply == "incoming")


def _whole_look(settings: Settings, sample: Sample, rules: Sequence[Rule]) -> tuple[Look, str]:
    """All that any rule asks for, so that each condition can be answered."""
    header: Header = rules_header.header_of(sample.body, sample.edits)
    look = Look(sample.head, header, (), sample.score)
    if not any(one.need == Need.ATTACHMENTS for rule in rules for one in rule.of_message):
        return look, ""
    found = _facts(settings, sample)
    if isinstance(found, Trouble):
        return look, f"attachments are not looked at: {found.why}"
    note = f"{found.verdict.value}: {found.why}" if found.why else ""
    return Look(sample.head, header, found.attachments, sample.score), note


def _facts(settings: Settings, sample: Sample) -> Facts | Trouble:
    async def asked(folder: str) -> Facts | Trouble:
        examiners = Examiners(settings.content, folder)
        try:
            return await examiners.facts(sample.head, sample.body)
        finally:
            await examiners.close()

    with tempfile.TemporaryDirectory(prefix="kmq-rules-") as folder:
        os.mkdir(f"{folder}/{FOLDER}")
        return asyncio.run(asked(folder))


def _tried(rule: Rule, applied: Applied | None, look: Look, meant: Sequence[int]) -> Tried:
    addresses = [look.head.recipients[index].address for index in meant]
    answers = tuple(_answers(rule, look, addresses)) if meant else ()
    if applied is None:
        return Tried(rule, (), answers, tuple(one.written for one in rule.section.action), not meant)
    known = placeholders(look, applied)
    actions = tuple(spelled(one, known) for one in rule.section.action)
    recipients = tuple(look.head.recipients[index].address for index in applied.rcpt)
    return Tried(rule, recipients, answers, actions, False)


def _answers(rule: Rule, look: Look, addresses: Sequence[str]) -> Iterator[Answer]:
    """In the order of the configuration."""
    tests: dict[str, Asked] = {one.condition.written: one for one in (*rule.of_recipients, *rule.of_message)}
    for condition in rule.section.condition:
        one = tests[condition.written]
        if one.of_recipient is not None:
            met = sum(map(one.of_recipient, addresses))
        else:
            met = len(addresses) if one.of_message is not None and one.of_message(look) is True else 0
        yield Answer(condition.written, met, len(addresses))
