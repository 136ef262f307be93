"""Attachments that are not let through, as a step of the phase Content filtering.

Does:     asks the examiner what is in a message, and the rules what of it is blocked. A message in which something is
          goes on as another one, with a note in the place of each part that had to go; the body as it came is gone with
          the old message. Copies go to who is named in [content], and a warning to the sender where he may be told.
Promise:  mail that plainly has no attachment is told from its header, in the loop, and costs no question. What could
          not be looked at, or not be taken out, is never let through by mistake: [content] says what becomes of it.
On crash: done again, with the same Finding.
Callers:  phases.content_filtering.
"""

from collections.abc import Iterator, Sequence

from kmq.config import Settings
from kmq.model import recipients
from kmq.model.envelope import Head, Recipient
from kmq.model.event import HeaderEdit, Passed, Suspended
from kmq.model.phase import Phase
from kmq.phases import unexamined
from kmq.phases.attachment_rules import Blocked, blocked, rules_of
from kmq.phases.edits import edited
from kmq.phases.examining import Examiners, without_facts
from kmq.phases.facts import Facts, Trouble
from kmq.phases.header_stream import HeaderStream
from kmq.phases.inspection import Finding, Letter, Matter, Pieces, Replacement
from kmq.phases.plain_mail import has_no_attachment
from kmq.phases.removal_words import Removal, for_sender, in_place, shown
from kmq.phases.rules_letters import Office, letter
from kmq.phases.splicing import Cut, removable, without
from kmq.routing.languages import Languages

#: How `kmq show` says where copies and warnings come from.
COPY, WARNING = "attachment filter", "warning"
#: Characters of an event's verdict.
_SAID = 600


class Attachments:
    """The sections [NAME : attachment] of a configuration, tried on each message."""

    phase = Phase.CONTENT
    step = "attachments"

    def __init__(self, settings: Settings, examiners: Examiners) -> None:
        self._rules = rules_of(settings)
        self._content = settings.content
        self._examiners = examiners
        self._languages = Languages(settings.notices)
        self._office = Office(settings.kmq.postmaster, settings.kmq.hostname)

    def concerns(self, matter: Matter) -> bool:
        text = matter.body.text
        return text is None or not has_no_attachment(text)

    async def inspect(self, matter: Matter) -> Finding:
        """See the module."""
        facts = await self._examiners.facts(matter.head, matter.body)
        if isinstance(facts, Trouble):
            return without_facts(facts, matter)
        ended = unexamined.ended(matter, facts, self._content)
        if ended is not None:
            return ended
        found = blocked(facts, self._rules)
        if not found:
            return Finding(Passed(verdict=unexamined.said(facts)))
        if not all(removable(facts.parts[one.part]) for one in found):
            return self._held(matter, found)
        return self._filtered(matter, facts, found)

    async def close(self) -> None:
        """Nothing is kept but the examiners, who are others' too."""
        await self._examiners.close()

    def _held(self, matter: Matter, found: Sequence[Blocked]) -> Finding:
        """It goes on as it came when an operator says so, or not at all."""
        passed = Passed(by=_rule_names(found), verdict=_cut(f"cannot be taken out: {_names(found)}"))
        held = Suspended(rcpt=recipients.as_text(matter.rcpt), by=passed.by, reason=passed.verdict)
        return Finding(passed, [held])

    def _filtered(self, matter: Matter, facts: Facts, found: Sequence[Blocked]) -> Finding:
        pieces = without(matter.head, matter.body, self._cuts(matter, facts, found))
        passed = Passed(by=_rule_names(found), verdict=_cut(f"removed {_names(found)}"))
        note = unexamined.said(facts)
        if note:
            passed.verdict = _cut(f"{passed.verdict}; {note}")
        goes_on = Replacement(matter.rcpt, pieces, why=passed.verdict)
        return Finding(passed, letters=list(self._letters(matter, facts, found, pieces)), replacement=goes_on)

    def _cuts(self, matter: Matter, facts: Facts, found: Sequence[Blocked]) -> list[Cut]:
        """One for each part, whatever is blocked in it."""
        language = self._languages.of(matter.head.recipients[matter.rcpt[0]].address)
        by_part: dict[int, list[Blocked]] = {}
        for one in found:
            by_part.setdefault(one.part, []).append(one)
        return [
            Cut(facts.parts[number], in_place(_removal(facts, each), self._office.hostname, language))
            for number, each in by_part.items()
        ]

    # --- further messages ---------------------------------------------------------------------------------------------

    def _letters(self, matter: Matter, facts: Facts, found: Sequence[Blocked], pieces: Pieces) -> Iterator[Letter]:
        content = self._content
        if content.forward_original:
            yield Letter("", (_silent(content.forward_original),), how=COPY, quiet=True)
        if content.forward_filtered:
            text = _with_edits(pieces, matter.edits)
            yield Letter("", (_silent(content.forward_filtered),), pieces=text, how=COPY, quiet=True)
        if content.warn_sender and may_be_told(matter.head, facts):
            yield self._warning(matter, facts, found)

    def _warning(self, matter: Matter, facts: Facts, found: Sequence[Blocked]) -> Letter:
        sender = matter.head.sender
        text = (matter.body.text or b"")[: 64 << 10]
        subject, lines = for_sender(_removal(facts, found), self._office.hostname, self._languages.of(sender, text))
        subjects = " ".join(facts.values("subject"))
        if subjects:
            subject = f"{subject}: {shown(subjects)}"
        return letter(matter.head, "attachments", (sender,), subject, lines, self._office)


def may_be_told(head: Head, facts: Facts) -> bool:
    """RFC 3834 2: nobody is answered who is a program, a list, or who asked not to be."""
    if not head.sender or head.quiet:
        return False
    local = head.sender.rpartition("@")[0].lower()
    if local.startswith(("owner-", "bounce", "mailer-daemon", "noreply", "no-reply")) or local.endswith(
        ("-request", "-owner", "-bounces")
    ):
        return False
    if any(value.split(";")[0].strip().lower() != "no" for value in facts.values("auto-submitted")):
        return False
    if any(value.strip().lower() in ("bulk", "list", "junk") for value in facts.values("precedence")):
        return False
    return not any(line.name.startswith("list-") for line in facts.headers)


def _removal(facts: Facts, found: Sequence[Blocked]) -> Removal:
    return Removal(
        names=[one.name for one in found],
        reasons=[one.rule.section.description for one in found],
        sealed=any(facts.parts[one.part].sealed for one in found),
    )


def _rule_names(found: Sequence[Blocked]) -> str:
    names = dict.fromkeys(one.rule.name for one in found)
    return _cut(f"attachment {'rule' if len(names) == 1 else 'rules'} {', '.join(names)}")


def _names(found: Sequence[Blocked]) -> str:
    return ", ".join(dict.fromkeys(shown(one.name) for one in found))


def _cut(text: str) -> str:
    return text if len(text) <= _SAID else text[: _SAID - 3] + "..."


def _silent(address: str) -> Recipient:
    return Recipient(address, notify="NEVER")


def _with_edits(pieces: Pieces, edits: Sequence[HeaderEdit]) -> Pieces:
    """The header's changes made in it: a text of its own has none on its way out."""

    def changed() -> Iterator[bytes]:
        stream = HeaderStream(lambda header: edited(header, edits))
        yield from map(stream.feed, pieces())
        yield stream.end()

    return changed if edits else pieces
