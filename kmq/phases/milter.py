"""Milters: filters in Sendmail's protocol, shown a message as if it came in now, whose word counts.

Law:      what a milter refuses is returned, held or dropped, as its section says; TEMPFAIL has the message wait. What
          it changes of the header goes out with the message. Another text, another sender or further recipients make
          it another message, which goes on in its place. Recipients that it takes away are dropped.
Shown:    the header with the changes so far, without our own Received: on top, which an MTA adds behind its milters.
Promise:  nothing goes on unseen unless `failure = open`. A milter has as many messages in hand as its section says.
On crash: shown again.
Callers:  run.inspectors makes it, run.inspecting asks it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import IO

import msgspec

from kmq.config.milter import MilterSection
from kmq.config.scanner import write_peer
from kmq.model import fields, recipients
from kmq.model.address import NotAnAddress, on_wire, parse
from kmq.model.envelope import Recipient
from kmq.model.event import Discarded, Failed, HeaderEdit, Passed, Suspended
from kmq.model.fields import CRLF
from kmq.model.phase import Phase
from kmq.model.reply import Reply
from kmq.phases.desk import Desk
from kmq.phases.edits import edited
from kmq.phases.inspection import Finding, Matter, Replacement, put_off
from kmq.phases.milter_packets import Garbage
from kmq.phases.milter_talk import Said, Shown, Talk
from kmq.phases.peers import Unanswered, connect
from kmq.phases.scanned import Unreadable, beside, pieces_of
from kmq.phases.subjects import header_of

_PIECE = 128 << 10


class Milter:
    """An inspector (phases.inspection). places: messages of this worker that it may have in hand at once."""

    def __init__(self, section: MilterSection, places: int, hostname: str) -> None:
        self.phase = Phase.CONTENT if section.phase == "content" else Phase.ANTIVIRUS
        self.step = f"milter {section.name}"
        self._section = section
        self._hostname = hostname
        self._threads = ThreadPoolExecutor(min(places, 4), "milter")
        self._desk = Desk(places, section.time_limit, time.monotonic)

    def concerns(self, matter: Matter) -> bool:
        return matter.goes(self._section.apply)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def inspect(self, matter: Matter) -> Finding:
        loop = asyncio.get_running_loop()
        header = await loop.run_in_executor(self._threads, header_of, matter.body)
        try:
            said = await self._desk.ask(lambda: self._ask(matter, header))
        except Unreadable as trouble:
            raise trouble.error from trouble
        if isinstance(said, Unanswered):
            return self._unanswered(matter, said)
        return Verdict(self._section, matter, header, said).finding()

    async def _ask(self, matter: Matter, header: bytes) -> Said | Unanswered:
        loop = asyncio.get_running_loop()
        line = await connect(loop, self._section.address)
        if isinstance(line, Unanswered):
            return line
        with line:
            talk = Talk(line, self._section.reply_timeout, self._section.body_limit)
            try:
                return await talk.about(self._shown(matter, header))
            except Garbage as wrong:
                return Unanswered(f"it does not speak as a milter does: {wrong}")
            except TimeoutError:
                return Unanswered(f"no answer within {self._section.reply_timeout:g} s")

    def _unanswered(self, matter: Matter, said: Unanswered) -> Finding:
        name = self._section.name
        if self._section.failure == "open":
            return Finding(Passed(by=name, verdict=f"not shown to the milter: {said.why}"))
        where = f"milter {name} at {write_peer(self._section.address)}"
        return put_off(matter, Reply(451, "4.7.1", f"Content scanner unavailable: {where}: {said.why}"))

    def _shown(self, matter: Matter, header: bytes) -> Shown:
        head = matter.head
        now = fields.read(edited(header, matter.edits))

        def body() -> AsyncIterator[bytes]:
            return _behind(len(header), beside(pieces_of(head, matter.body), self._threads))

        return Shown(
            head.id,
            self._hostname,
            _client(head.source.ip),
            head.source.helo or self._hostname,
            head.source.user,
            _path(head.sender),
            {index: _path(head.recipients[index].address) for index in matter.rcpt},
            _without_ours(now) if _ours(header) else now,
            body,
        )


def _ours(header: bytes) -> bool:
    """The Received: on top of what came is ours."""
    return header[:9].lower() == b"received:"


def _without_ours(now: list[fields.Field]) -> list[fields.Field]:
    """Whatever phases have put above it by now."""
    place = next((at for at, one in enumerate(now) if one.name == b"received"), len(now))
    return now[:place] + now[place + 1 :]


def _client(ip: str) -> tuple[str, str, str]:
    """Name, family, address. What came from a program of this machine came from here, as milters know it."""
    if not ip:
        return "localhost", "4", "127.0.0.1"
    family = "6" if ip_address(ip).version == 6 else "4"
    return ("localhost" if ip in ("127.0.0.1", "::1") else f"[{ip}]"), family, f"IPv6:{ip}" if family == "6" else ip


def _path(address: str) -> str:
    """An address in <>; one that is none (an envelope that somebody edited) is the null path."""
    try:
        return on_wire(address).decode("utf-8", "replace") if address else "<>"
    except NotAnAddress:
        return "<>"


async def _behind(header: int, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What follows the header and the empty line."""
    left, begun = header, False
    async for piece in pieces:
        piece, left = piece[left:], max(0, left - len(piece))
        if piece and not begun:
            begun = True
            piece = piece.removeprefix(CRLF)
        if piece:
            yield piece


class Verdict:
    """What a milter said, as what is to be done."""

    def __init__(self, section: MilterSection, matter: Matter, header: bytes, said: Said) -> None:
        self._section = section
        self._matter = matter
        self._header = header
        self._said = said
        self._by = f"milter {section.name}"
        self._told: list[str] = []

    def finding(self) -> Finding:
        said, matter = self._said, self._matter
        later = [one for one in said.refused.values() if not one.permanent]
        if said.reply is not None and not said.reply.permanent:
            return put_off(matter, said.reply)
        if later:
            return put_off(matter, later[0])
        if said.reply is not None:
            return self._rejected(said.reply)
        if said.discard:
            return self._ended(Discarded(rcpt=self._all, by=self._by, reason="the milter drops it"))
        return self._changed()

    @property
    def _all(self) -> str:
        return recipients.as_text(self._matter.rcpt)

    def _ended(self, event: Discarded | Failed | Suspended) -> Finding:
        return Finding(Passed(by=self._section.name), [event])

    def _rejected(self, reply: Reply) -> Finding:
        why = f"the milter rejects it: {reply}"
        match self._section.reject:
            case "quarantine":
                return self._ended(Suspended(rcpt=self._all, by=self._by, reason=why))
            case "discard":
                return self._ended(Discarded(rcpt=self._all, by=self._by, reason=why))
            case _:
                return self._ended(Failed(rcpt=self._all, attempt=self._matter.attempt, reply=str(reply)))

    def _changed(self) -> Finding:
        """It goes on, with what the milter changed."""
        finding = Finding(Passed(by=self._section.name, headers=self._edits()))
        left = [index for index in self._matter.rcpt if index not in self._said.refused]
        finding.events += [
            Failed(rcpt=str(index), attempt=self._matter.attempt, reply=str(reply))
            for index, reply in self._said.refused.items()
        ]
        removed = self._removed(left)
        if removed:
            reason = "the milter takes the recipient away"
            finding.events.append(Discarded(rcpt=recipients.as_text(removed), by=self._by, reason=reason))
        going = tuple(index for index in left if index not in removed)
        replacement = self._replacement(going)
        if self._said.held is not None and going:
            reason = f"quarantined by the milter: {self._said.held}"
            finding.events.append(Suspended(rcpt=recipients.as_text(going), by=self._by, reason=reason))
            if replacement is not None:
                self._told.append("held as it was: its other text, sender or recipients are left out")
        elif replacement is not None:
            finding.replacement = replacement
        assert finding.passed is not None, "made so above"
        finding.passed.verdict = "; ".join(self._told)
        return finding

    def _edits(self) -> tuple[HeaderEdit, ...]:
        """Places of fields as they lie in the header, of which the milter does not see our own on top."""
        if not _ours(self._header):
            return tuple(self._said.headers)
        return tuple(
            msgspec.structs.replace(one, place=one.place + 1)
            if one.how == "replace" and one.name.lower() == "received"
            else one
            for one in self._said.headers
        )

    def _removed(self, left: list[int]) -> list[int]:
        names = {self._address(one) for one in self._said.removed} - {None}
        return [index for index in left if self._matter.head.recipients[index].address.lower() in names]

    def _address(self, text: str) -> str | None:
        """In lower case; None, and told, when it is none."""
        found = self._parsed(text)
        return None if found is None else found.lower()

    def _parsed(self, text: str) -> str | None:
        words = text.split(" ")[0]
        bare = words[1:-1] if words[:1] == "<" and words[-1:] == ">" else words
        try:
            return str(parse(bare)) if bare else ""
        except NotAnAddress:
            self._told.append(f"{text[:100]!r} is no address, and left out")
            return None

    def _replacement(self, going: tuple[int, ...]) -> Replacement | None:
        said = self._said
        known = {self._matter.head.recipients[index].address.lower() for index in going}
        added = dict.fromkeys(filter(None, map(self._parsed, said.added[:1000])))
        new = tuple(Recipient(one) for one in added if one.lower() not in known)
        sender = self._parsed(said.sender) if said.sender is not None else None
        if sender == self._matter.head.sender:
            sender = None
        why = [
            word for word, is_so in (("text", said.text), ("recipients", new), ("sender", sender is not None)) if is_so
        ]
        if not why or not going:
            return None
        pieces = _with_text(self._matter, self._header, said.text) if said.text is not None else None
        return Replacement(going, pieces, sender, f"the milter changes its {', '.join(why)}", added=new)


def _with_text(matter: Matter, header: bytes, text: IO[bytes]) -> Callable[[], Iterator[bytes]]:
    """The header as it came, and another text behind it."""

    def pieces() -> Iterator[bytes]:
        yield header + CRLF
        text.seek(0)
        while piece := text.read(_PIECE):
            yield piece

    return pieces
