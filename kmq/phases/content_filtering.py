"""The phase Content filtering: server rules, then attachment rules.

Order:    rules look at the message as it came; what they reject, discard or hold is not taken apart any more. What a
          rule sends on is a message of its own, whose attachments are looked at in their turn.
Promise:  what is not configured is not loaded, and costs nothing.
Callers:  run.inspectors.
"""

from kmq.config import Settings
from kmq.phases.examining import examiners_of
from kmq.phases.inspection import Inspector


def steps_of(settings: Settings) -> list[Inspector]:
    """The steps of a configuration, in their order."""
    found: list[Inspector] = []
    if any(one.enabled for one in settings.rules):
        from kmq.phases.server_rules import ServerRules

        found.append(ServerRules(settings, examiners_of(settings.content, str(settings.kmq.spool))))
    if settings.attachments:
        from kmq.phases.content_attachments import Attachments

        found.append(Attachments(settings, examiners_of(settings.content, str(settings.kmq.spool))))
    return found
