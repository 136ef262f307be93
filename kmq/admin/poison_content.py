"""Content filtering for trial: what the examiner finds in a message, which server rules apply to it, and what
attachment rules would take out of it.

Promise:  archives are unpacked into memory, since a trial may write no file; nothing else differs from what the
          examiner does.
Callers:  admin.poison_trial, in a confined child.
"""

import os
from collections.abc import Iterator

from kmq.config import Settings
from kmq.model.envelope import Head
from kmq.phases import attachment_rules
from kmq.phases.attachment_rules import blocked
from kmq.phases.examiner import examined
from kmq.phases.examiner_frames import Examined
from kmq.phases.examining import question_of
from kmq.phases.facts import Facts
from kmq.phases.removal_words import shown
from kmq.phases.rules import apply, rules_of
from kmq.phases.rules_header import header_of
from kmq.phases.rules_tests import Look
from kmq.phases.unexamined import said
from kmq.phases.work import Body


class _Held:
    """A scratch file that is none."""

    def __init__(self) -> None:
        self.used = False
        self._held = bytearray()

    def write(self, at: int, piece: bytes) -> None:
        self.used = True
        self._held[at : at + len(piece)] = piece

    def read(self, at: int, count: int) -> bytes:
        return bytes(self._held[at : at + count])


def content(settings: Settings, head: Head, path: str) -> list[str]:
    """A sentence each. path: of a copy of the body."""
    body = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        answer = examined(question_of(settings.content, head), body, _Held())
    finally:
        os.close(body)
    if not isinstance(answer, Examined):
        return [f"the message cannot be examined: {getattr(answer, 'why', '')}"]
    facts = answer.facts
    told = [f"parts: {len(facts.parts)}; attachments and files in archives: {len(facts.attachments)}"]
    told += [said(facts)] if facts.why else []
    told += _applying(settings, head, path, facts)
    found = blocked(facts, attachment_rules.rules_of(settings))
    return told + [f"{shown(one.name)} would be taken out by the attachment rule {one.rule.name}" for one in found]


def _applying(settings: Settings, head: Head, path: str, facts: Facts) -> Iterator[str]:
    """Whom `apply` means is decided by local_domains alone: no file of aliases is read here."""
    look = Look(head, header_of(Body(None, path, head.size), head.edits), facts.attachments)
    everybody = range(len(head.recipients))
    domains = settings.kmq.local_domains
    applied = apply(rules_of(settings), look, everybody, lambda address: address.rpartition("@")[2] in domains)
    for one in applied if isinstance(applied, list) else ():
        yield f"the rule {one.rule.name} applies to {len(one.rcpt)} of {len(everybody)} recipients"
