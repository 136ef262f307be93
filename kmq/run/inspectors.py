"""Which phases ahead of routing a configuration wants, in their order.

Order:    Backup (of mail as it came), Content filtering, Antivirus control, Backup (of mail as it goes on).
Promise:  a phase that is not configured is not loaded, and costs nothing.
Callers:  run.walk.
"""

from kmq.config import Settings
from kmq.config.backup import AFTER, BEFORE
from kmq.phases.inspection import Inspector
from kmq.run.scanning import milter_steps, spam_steps, virus_steps


def inspectors_of(settings: Settings, worker: int) -> list[Inspector]:
    """The steps of a worker."""
    return [
        *_backup(settings, BEFORE),
        *spam_steps(settings, worker, "content"),
        *milter_steps(settings, worker, "content"),
        *_content_filters(settings),
        *spam_steps(settings, worker, "antivirus"),
        *virus_steps(settings, worker),
        *milter_steps(settings, worker, "antivirus"),
        *_backup(settings, AFTER),
    ]


def _backup(settings: Settings, order: str) -> list[Inspector]:
    """Archiving, at its place."""
    if not settings.backup.on or settings.backup.order != order:
        return []
    from kmq.phases.backup import Backup

    return [Backup(settings.backup, settings.kmq.spool)]


def _content_filters(settings: Settings) -> list[Inspector]:
    """Server rules and attachment rules."""
    if not settings.rules and not settings.attachments:
        return []
    from kmq.phases.content_filtering import steps_of

    return steps_of(settings)
