"""The values that notices are made of.

Promise:  values only.
Callers:  run.notices and its parts, run.terminating.
"""

from enum import Enum
from typing import NamedTuple

from kmq.config.sections import NoticesSection, Settings
from kmq.model import moment
from kmq.model.envelope import Head, Recipient
from kmq.model.reply import Reply
from kmq.routing.languages import Languages
from kmq.run.schedule import Schedules, schedules_of

#: What stands in `source.how` of a notice, and of a copy for the postmaster.
NOTICE, COPY = "dsn", "copy"


class Action(Enum):
    """What is told of a recipient; the words of RFC 3464 2.3.3."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"  #: into a mailbox of this machine
    RELAYED = "relayed"  #: to a server that knows nothing of notices: no more will be heard of it
    EXPANDED = "expanded"  #: to the several addresses of an alias


class Letter(NamedTuple):
    """The message that a notice is about. text: the beginning of its body, the header at least."""

    head: Head
    text: bytes


class Told(NamedTuple):
    """What is to be told of a recipient, by index. reply: as in events; host: who gave it, "" for us.

    given_up: its time is over, and the reply is the last that was heard.
    """

    rcpt: int
    reply: str
    host: str
    action: Action
    given_up: bool = False


class Lost(NamedTuple):
    """A recipient in a notice. tried: seconds for which we have tried; 0.0 when the reply was final."""

    recipient: Recipient
    reply: Reply
    host: str
    action: Action
    tried: float = 0.0

    @property
    def status(self) -> str:
        """RFC 3463: 4 while it goes on, 5 for a failure; 4.7 (3.5): delivery time expired, whatever was heard last."""
        said = self.reply.status
        if self.action is Action.DELAYED:
            return "4" + said[1:]
        if self.action is not Action.FAILED:
            return said if said[0] == "2" else "2.0.0"
        return "5.4.7" if self.tried else "5" + said[1:]


class Office(NamedTuple):
    """Who makes notices, and by which rules. until: Unix time up to which a message is tried, 0.0 for not known.

    languages: who is told in which.
    """

    hostname: str
    postmaster: str
    size_limit: int
    undeliverable: str
    schedules: Schedules
    until: float = 0.0
    languages: Languages = Languages(NoticesSection())


def office_of(settings: Settings) -> Office:
    """By this configuration."""
    kmq, queue = settings.kmq, settings.queue
    return Office(
        kmq.hostname,
        kmq.postmaster,
        queue.bounce_size_limit,
        queue.undeliverable_notices,
        schedules_of(settings),
        languages=Languages(settings.notices),
    )


def unix(created: str) -> float:
    """The Unix time of an envelope's text, 0.0 for none."""
    try:
        return moment.from_text(created)
    except ValueError:
        return 0.0
