"""What all scanners say of one text, asked one after the other.

Law:      one that finds something ends the round, and so does one that has to be asked and cannot be. What a scanner
          could not look into counts as its section says.
On crash: nothing is kept.
Callers:  phases.antivirus, phases.antivirus_removal.
"""

from collections.abc import Sequence

import msgspec

from kmq.config.scanner import ScannerSection
from kmq.phases.antivirus_scanner import Scanner
from kmq.phases.clamd import Result, Verdict
from kmq.phases.inspection import Pieces
from kmq.phases.peers import Unanswered


class Round(msgspec.Struct):
    """found: infected, or counted as such, by the scanner `by`. down: a scanner that had to be asked and could not be.

    warnings: what could not be looked into, and is delivered all the same; unscanned: scanners that could not be asked,
    and need not be; clean: those that found nothing; accepted: what nobody minds.
    """

    found: Verdict | None = None
    by: Scanner | None = None
    down: tuple[Scanner, Unanswered] | None = None
    warnings: list[tuple[Scanner, Verdict]] = []
    unscanned: list[tuple[Scanner, Unanswered]] = []
    clean: list[Scanner] = []
    accepted: list[Verdict] = []


class Scanners:
    """Those of a configuration, in their order."""

    def __init__(self, scanners: Sequence[Scanner]) -> None:
        self._scanners = tuple(scanners)
        self.names = ", ".join(one.section.name for one in scanners)

    def close(self) -> None:
        """The process ends."""
        for scanner in self._scanners:
            scanner.close()

    async def ask(self, text: bytes | Pieces, size: int) -> Round:
        """BodyDamaged, Unreadable; OSError when the text cannot be read."""
        found = Round()
        for scanner in self._scanners:
            verdict = await scanner.look(text, size)
            if isinstance(verdict, Unanswered):
                if scanner.section.failure == "wait":
                    found.down = scanner, verdict
                    return found
                found.unscanned.append((scanner, verdict))
                continue
            match _counts_as(scanner.section, verdict):
                case "infected":
                    found.found, found.by = verdict, scanner
                    return found
                case "warn":
                    found.warnings.append((scanner, verdict))
                case _ if verdict.result is Result.CLEAN:
                    found.clean.append(scanner)
                case _:
                    found.accepted.append(verdict)
        return found


def _counts_as(section: ScannerSection, verdict: Verdict) -> str:
    """infected, warn, accept."""
    match verdict.result:
        case Result.INFECTED:
            return "infected"
        case Result.ENCRYPTED:
            return section.encrypted
        case Result.UNSCANNABLE:
            return section.unscannable
        case Result.CLEAN:
            return "accept"
