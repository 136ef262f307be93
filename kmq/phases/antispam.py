"""Spam: rspamd looks at the message, and what it says becomes fields of the header, or ends or holds the message.

Law:      what it would reject is marked, held, dropped or rejected as the section says; it is in the queue already, so
          that a rejection is a notice to a sender who is forged as a rule. Its score goes along with the message, for
          the rules. Fields that look like ours and came from elsewhere go.
Promise:  as phases.antivirus: nothing goes on unlooked at unless `failure = open`.
On crash: looked at again.
Callers:  run.inspectors makes it, run.inspecting asks it.
"""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from kmq.config.scanner import ScannerSection, write_peer
from kmq.model import recipients
from kmq.model.event import Discarded, Failed, HeaderEdit, Passed, Suspended
from kmq.model.phase import Phase
from kmq.model.reply import Reply
from kmq.phases.desk import Desk
from kmq.phases.encoded_words import worded
from kmq.phases.inspection import Finding, Matter, put_off
from kmq.phases.peers import Unanswered
from kmq.phases.rspamd import Call, Judgement
from kmq.phases.scanned import Unreadable, pieces_of
from kmq.phases.subjects import header_of, marked, subject_of

BY = "antispam"

STATUS, SCORE, FLAG = "X-Spam-Status", "X-Spam-Score", "X-Spam-Flag"

#: Actions that say that it is spam.
_SPAM = frozenset(("add header", "rewrite subject", "reject", "quarantine", "discard"))
#: Symbols in the header.
_SHOWN = 20


class Antispam:
    """An inspector (phases.inspection). places: messages of this worker that rspamd may have in hand at once."""

    def __init__(self, section: ScannerSection, places: int, hostname: str) -> None:
        self.phase = Phase.CONTENT if section.phase == "content" else Phase.ANTIVIRUS
        self.step = section.name
        self._section = section
        self._hostname = hostname
        self._name = f"{section.name} (rspamd at {write_peer(section.address)})"
        self._threads = ThreadPoolExecutor(places, "spam-scan")
        self._desk = Desk(places, section.time_limit, time.monotonic)

    def concerns(self, matter: Matter) -> bool:
        return matter.goes(self._section.apply)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def inspect(self, matter: Matter) -> Finding:
        section = self._section
        if matter.head.size > section.size_limit:
            return Finding(Passed(by=section.name, verdict="not looked at: larger than size_limit"))
        try:
            said = await self._desk.ask(lambda: self._check(matter))
        except Unreadable as trouble:
            raise trouble.error from trouble
        if isinstance(said, Unanswered):
            return self._unanswered(matter, said)
        return await self._judged(matter, said)

    async def _check(self, matter: Matter) -> Judgement | Unanswered:
        """In a thread, which is called back when nobody waits any more."""
        call = Call(self._section.address, self._section.time_limit)
        pieces = pieces_of(matter.head, matter.body)
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, call.check, matter.head, self._hostname, pieces, matter.rcpt
            )
        except asyncio.CancelledError:
            call.stop()
            raise

    def _unanswered(self, matter: Matter, said: Unanswered) -> Finding:
        if self._section.failure == "open":
            edit = HeaderEdit("set", STATUS, f"Unknown, {self._section.name} was not asked")
            return Finding(Passed(by=self._section.name, verdict=f"unscanned: {said.why}", headers=(edit,)))
        return _deferred(matter, f"Content scanner unavailable: {self._name}: {said.why}")

    async def _judged(self, matter: Matter, said: Judgement) -> Finding:
        section = self._section
        waits = {"greylist": section.greylist, "soft reject": section.soft_reject}
        if waits.get(said.action) == "wait":
            return _deferred(matter, said.reply or f"{section.name} says {said.action}, score {said.score:.1f}")
        passed = Passed(by=section.name, verdict=_told(said), headers=await self._edits(matter, said), score=said.score)
        return _finding(matter, passed, section, said)

    async def _edits(self, matter: Matter, said: Judgement) -> tuple[HeaderEdit, ...]:
        section, edits = self._section, []
        if section.milter_headers:
            edits += [HeaderEdit(*change) for change in said.changes]
        if section.spam_headers:
            edits += _fields(said)
        if said.action == "rewrite subject" and said.subject:
            edits.append(HeaderEdit("set", "Subject", worded(said.subject)))
        elif said.action == "rewrite subject" and section.spam_subject:
            header = await asyncio.get_running_loop().run_in_executor(self._threads, header_of, matter.body)
            edits.append(marked(section.spam_subject, subject_of(header, matter.edits)))
        return tuple(edits)


def _finding(matter: Matter, passed: Passed, section: ScannerSection, said: Judgement) -> Finding:
    """What becomes of it."""
    action = said.action
    if action not in ("reject", "discard", "quarantine"):
        return Finding(passed)
    rcpt, why = recipients.as_text(matter.rcpt), f"{_told(said)} ({section.name})"
    match "quarantine" if action == "quarantine" else section.spam:
        case "quarantine":
            return Finding(passed, [Suspended(rcpt=rcpt, by=BY, reason=why)])
        case "discard":
            return Finding(passed, [Discarded(rcpt=rcpt, by=BY, reason=why)])
        case "reject":
            reply = Reply(550, "5.7.1", said.reply or "the message looks like spam")
            return Finding(passed, [Failed(rcpt=rcpt, attempt=matter.attempt, reply=str(reply))])
        case _:
            return Finding(passed)


def _deferred(matter: Matter, why: str) -> Finding:
    return put_off(matter, Reply(451, "4.7.1", why))


def _told(said: Judgement) -> str:
    return f"{said.action}, score {said.score:.1f} of {said.required:.1f}"


def _fields(said: Judgement) -> list[HeaderEdit]:
    spam = said.action in _SPAM
    tests = ",\r\n\t".join(said.symbols[:_SHOWN]) or "none"
    status = f"{'Yes' if spam else 'No'}, score={said.score:.2f} required={said.required:.2f}\r\n\ttests={tests}"
    flag = HeaderEdit("set", FLAG, "YES") if spam else HeaderEdit("remove", FLAG)
    return [HeaderEdit("set", STATUS, status), HeaderEdit("set", SCORE, f"{said.score:.2f}"), flag]
