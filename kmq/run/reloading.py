"""A configuration that is read again: what counts at once is taken, what needs a restart stays as it is.

Promise:  a configuration is taken whole or not at all: the supervisor asks here first, and nobody else is told of one
          that is wrong. All processes of one kmqd work in one spool, with one set of listeners and one number of
          workers, whatever the file says meanwhile; also those that are begun after it was changed.
On crash: the next kmqd reads the file as it is.
Callers:  the supervisor, and every child, each when told to reload.
"""

import dataclasses
from typing import TypeVar

from kmq.config import (
    ConnectorSection,
    KmqSection,
    PickupSection,
    QueueSection,
    ReceiverSection,
    ReplaySection,
    Settings,
    load,
)
from kmq.config.certificates import require
from kmq.config.sections import OPTIONS

S = TypeVar("S", KmqSection, QueueSection, PickupSection, ReplaySection, ReceiverSection, ConnectorSection)


def reread(settings: Settings) -> Settings:
    """The file of these settings again, as far as it counts without a restart; ConfigError when it is wrong."""
    return accepted(settings, load(settings.path))


def accepted(old: Settings, new: Settings) -> Settings:
    """`applied`; ConfigError when a certificate of `new`, or of a receiver that stays, cannot be used."""
    require(new)
    now = applied(old, new)
    require(now)
    return now


def applied(old: Settings, new: Settings) -> Settings:
    """`new`, with the old values of options that need a restart. Receivers come and go with their listeners: at one."""
    receivers = {section.name: section for section in new.receivers}
    return dataclasses.replace(
        new,
        kmq=_kept("kmq", old.kmq, new.kmq),
        queue=_kept("queue", old.queue, new.queue),
        pickup=_kept("pickup", old.pickup, new.pickup),
        replay=_kept("replay", old.replay, new.replay),
        receivers=tuple(_kept("receiver", one, receivers.get(one.name, one)) for one in old.receivers),
    )


def _kept(kind: str, old: S, new: S) -> S:
    values = {option.name: getattr(old, option.name) for option in OPTIONS[kind].values() if option.restart}
    return dataclasses.replace(new, **values)
