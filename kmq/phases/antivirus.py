"""Antivirus control: every scanner of type clamd looks at the message, and what one finds is dealt with as it says.

Does:     the whole message is shown to each scanner in its turn; one that finds something ends the round. What is clean
          goes on; what is encrypted, or too much to be unpacked, goes on with a warning or counts as infected.
Promise:  nothing goes on unscanned unless `failure = open`: when a scanner cannot be asked the message waits (451
          4.7.1). The sender of a virus is told only where the operator says so: he is forged as a rule. What an
          operator lets go on is not scanned again.
On crash: scanned again; nobody was told of anything.
Callers:  run.inspectors makes it, run.inspecting asks it.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from kmq.config.scanner import SCANNERS, ScannerSection
from kmq.model import recipients
from kmq.model.event import Discarded, Failed, HeaderEdit, Passed, Suspended
from kmq.model.phase import Phase
from kmq.model.reply import Reply
from kmq.phases.antivirus_letters import Incident, report
from kmq.phases.antivirus_removal import Remover, Rest, Whole
from kmq.phases.antivirus_round import Round, Scanners
from kmq.phases.antivirus_scanner import Scanner
from kmq.phases.clamd import Result, Verdict
from kmq.phases.inspection import Finding, Letter, Matter, Replacement, put_off
from kmq.phases.peers import Unanswered
from kmq.phases.rules_letters import Office
from kmq.phases.scanned import Unreadable, pieces_of
from kmq.phases.subjects import header_of, marked, subject_of

STATUS = "X-Virus-Status"
#: So many time limits has a message whose parts are scanned one by one.
_QUESTIONS = 5


class Antivirus:
    """An inspector (phases.inspection). places: messages of this worker in each scanner's hands at once, by its name.

    remover: takes infected parts out; None when no scanner wants that.
    """

    phase = Phase.ANTIVIRUS
    step = "virus scan"

    def __init__(
        self, sections: Sequence[ScannerSection], places: dict[str, int], office: Office, remover: Remover | None
    ) -> None:
        self._threads = ThreadPoolExecutor(2, "virus-scan")
        self._scanners = Scanners([Scanner(one, places[one.name], self._threads) for one in sections])
        self._office = office
        self._remover = remover

    def concerns(self, matter: Matter) -> bool:
        return not any(one.step == self.step and one.phase == self.phase.text for one in matter.earlier)

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._scanners.close()
        if self._remover is not None:
            await self._remover.close()

    async def inspect(self, matter: Matter) -> Finding:
        try:
            text = matter.body.text
            shown = pieces_of(matter.head, matter.body) if text is None else text
            found = await self._scanners.ask(shown, matter.head.size)
            if found.down is not None:
                return _waits(matter, *found.down)
            if found.found is not None and found.by is not None:
                return await self._infected(matter, found.by, found.found)
            return await self._goes_on(matter, found)
        except Unreadable as trouble:
            raise trouble.error from trouble

    # --- what goes on ------------------------------------------------------------------------------------------------

    async def _goes_on(self, matter: Matter, found: Round) -> Finding:
        by = self._scanners.names
        if found.unscanned:
            scanner, trouble = found.unscanned[0]
            verdict = f"unscanned: {scanner.section.name}: {trouble.why}"
            return Finding(Passed(by=by, verdict=verdict, headers=(_status(f"unscanned ({scanner.section.name})"),)))
        if found.warnings:
            scanner, warning = found.warnings[0]
            return Finding(
                Passed(by=scanner.section.name, verdict=str(warning), headers=await self._warning(matter, found))
            )
        headers = (_status("clean"),) if any(one.section.header for one in found.clean) else ()
        verdict = str(found.accepted[0]) if found.accepted else Result.CLEAN.value
        return Finding(Passed(by=by, verdict=verdict, headers=headers))

    async def _warning(self, matter: Matter, found: Round) -> tuple[HeaderEdit, ...]:
        """What tells the reader that nobody has looked into his mail."""
        scanner, warning = found.warnings[0]
        mark = scanner.section.warning_subject
        if not mark:
            return (_status(str(warning)),)
        header = await asyncio.get_running_loop().run_in_executor(self._threads, header_of, matter.body)
        return _status(str(warning)), marked(f"{mark} %s", subject_of(header, matter.edits))

    # --- what does not -----------------------------------------------------------------------------------------------

    async def _infected(self, matter: Matter, by: Scanner, virus: Verdict) -> Finding:
        why = ""
        if by.section.infected == "remove" and self._remover is not None:
            match await self._rest(matter, by, self._remover):
                case Rest() as rest:
                    return await self._without(matter, by, virus, rest)
                case Round(down=down) if down is not None:
                    return _waits(matter, *down)
                case Finding() as hindered:
                    return hindered
                case Whole() as whole:
                    why = f": {whole.why}"
        finding = _ended(matter, by.section, virus, why)
        finding.letters += self._original(matter, by, virus, _became(finding))
        return finding

    async def _rest(self, matter: Matter, by: Scanner, remover: Remover) -> Rest | Round | Whole | Finding:
        """What is left when the infected parts are gone. Many parts are many questions: they have a limit, too."""
        limit = _QUESTIONS * by.section.time_limit
        try:
            async with asyncio.timeout(limit):
                return await remover.removed(matter, self._scanners)
        except TimeoutError:
            return Whole(f"its parts could not be scanned within {limit:g} s")

    async def _without(self, matter: Matter, by: Scanner, virus: Verdict, rest: Rest) -> Finding:
        """It goes on without what was found; the rest was scanned again."""
        verdict = f"{virus}, removed {rest.names}"
        headers = await self._warning(matter, rest.round) if rest.round.warnings else ()
        passed = Passed(by=by.section.name, verdict=verdict, headers=headers)
        finding = Finding(passed, replacement=Replacement(matter.rcpt, rest.pieces, why=verdict))
        became = f"It was delivered without its attachment: {rest.names}"
        finding.letters += self._original(matter, by, virus, became)
        if to := by.section.forward_filtered:
            incident = Incident(matter.head, virus.name, by.section.name, became)
            finding.letters.append(report(incident, self._office, to, rest.pieces, filtered=True))
        return finding

    def _original(self, matter: Matter, by: Scanner, virus: Verdict, became: str) -> list[Letter]:
        to = by.section.forward_original
        if not to:
            return []
        incident = Incident(matter.head, virus.name, by.section.name, became)
        return [report(incident, self._office, to, pieces_of(matter.head, matter.body))]


def _waits(matter: Matter, scanner: Scanner, trouble: Unanswered) -> Finding:
    return put_off(matter, Reply(451, "4.7.1", f"Content scanner unavailable: {scanner.name}: {trouble.why}"))


def _ended(matter: Matter, section: ScannerSection, virus: Verdict, more: str) -> Finding:
    """What becomes of mail that is infected as a whole."""
    rcpt, why = recipients.as_text(matter.rcpt), f"{virus} ({section.name}){more}"
    passed = Passed(by=section.name, verdict=str(virus))
    match section.infected:
        case "discard":
            return Finding(passed, [Discarded(rcpt=rcpt, by=SCANNERS, reason=why)])
        case "reject":
            reply = Reply(550, "5.7.1", f"the message has a virus: {virus.name or virus}")
            return Finding(passed, [Failed(rcpt=rcpt, attempt=matter.attempt, reply=str(reply))])
        case _:
            return Finding(passed, [Suspended(rcpt=rcpt, by=SCANNERS, reason=why)])


def _became(finding: Finding) -> str:
    match finding.events:
        case [Discarded()]:
            return "It was discarded, and nobody was told."
        case [Failed()]:
            return "It was rejected, and its sender is told."
        case _:
            return "It is held: kmq resume lets it go on past the scanners, kmq remove ends it."


def _status(text: str) -> HeaderEdit:
    return HeaderEdit("set", STATUS, text)
