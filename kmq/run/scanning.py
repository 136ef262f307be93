"""The scanners and milters of a configuration, as steps of the phases ahead of routing.

Promise:  what is not configured is not loaded. Connections are dealt out to workers, so that the parts add up to what
          the section says.
Callers:  run.inspectors.
"""

from kmq.config import Settings
from kmq.config.connections import part
from kmq.config.sections import MilterSection, ScannerSection
from kmq.phases.inspection import Inspector


def spam_steps(settings: Settings, worker: int, phase: str) -> list[Inspector]:
    """Those of type rspamd whose phase is `content`, or `antivirus`."""
    sections = [one for one in settings.scanners if one.type == "rspamd" and one.phase == phase]
    if not sections:
        return []
    from kmq.phases.antispam import Antispam

    return [Antispam(one, _places(one, settings, worker), settings.kmq.hostname) for one in sections]


def virus_steps(settings: Settings, worker: int) -> list[Inspector]:
    """One step for all of type clamd."""
    sections = [one for one in settings.scanners if one.type == "clamd"]
    if not sections:
        return []
    from kmq.phases.antivirus import Antivirus
    from kmq.phases.antivirus_removal import Remover
    from kmq.phases.examining import examiners_of
    from kmq.phases.rules_letters import Office
    from kmq.routing.languages import Languages

    kmq, remover = settings.kmq, None
    if any(one.infected == "remove" for one in sections):
        examiners = examiners_of(settings.content, str(kmq.spool))
        remover = Remover(examiners, Languages(settings.notices), kmq.hostname)
    places = {one.name: _places(one, settings, worker) for one in sections}
    return [Antivirus(sections, places, Office(kmq.postmaster, kmq.hostname), remover)]


def milter_steps(settings: Settings, worker: int, phase: str) -> list[Inspector]:
    """Milters whose phase is `content`, or `antivirus`."""
    sections = [one for one in settings.milters if one.phase == phase]
    if not sections:
        return []
    from kmq.phases.milter import Milter

    return [Milter(one, _places(one, settings, worker), settings.kmq.hostname) for one in sections]


def _places(one: ScannerSection | MilterSection, settings: Settings, worker: int) -> int:
    """Of its connections, those of this worker; a worker that is on its way out keeps one to end what it has."""
    return max(1, part(one.connections, worker, settings.kmq.workers, one.name))
