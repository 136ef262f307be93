"""Which phases ahead of routing a configuration wants, in their order.

Order:    Backup (of mail as it came), Content filtering, Antivirus control, Backup (of mail as it goes on).
Promise:  a phase that is not configured is not loaded, and costs nothing.
Callers:  run.walk.
"""

from kmq.config import Settings
from kmq.phases.inspection import Inspector
from kmq.run.scanning import spam_steps, virus_steps


def inspectors_of(settings: Settings, worker: int) -> list[Inspector]:
    """The steps of a worker."""
    return [
        *spam_steps(settings, worker, "content"),
        *_content_filters(settings),
        *virus_steps(settings, worker, None),
        *spam_steps(settings, worker, "antivirus"),
    ]


def _content_filters(settings: Settings) -> list[Inspector]:
    """Server rules and attachment rules."""
    if not settings.rules and not settings.attachments:
        return []
    from kmq.phases.content_filtering import steps_of

    return steps_of(settings)
