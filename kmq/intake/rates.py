"""What clients of one receiver may do in a minute: come, begin messages, name recipients.

Promise:  a limit holds over all receiver processes together; where there is none nothing is counted. A client is his
          user once he has logged in, else his address. Who is exempt (`unlimited_clients`) is not counted.
On crash: as `rows`.
Callers:  `smtpd` for each connection, `session` for what is said in it; run.gates hands in the memory.
"""

from enum import IntEnum

from kmq.config.sections import ReceiverSection
from kmq.intake import pace, replies
from kmq.intake.pace import Pace
from kmq.intake.rows import place_of
from kmq.intake.rules import Client


class Meter(IntEnum):
    """What is counted; the value is its place in the memory."""

    CONNECTIONS = 0  #: of everybody
    CLIENT_CONNECTIONS = 1
    MESSAGES = 2
    RECIPIENTS = 3


_EVERYBODY = 0


def limits_of(section: ReceiverSection) -> dict[Meter, int]:
    """Those that there are."""
    found = {
        Meter.CONNECTIONS: section.connections_per_minute,
        Meter.CLIENT_CONNECTIONS: section.client_connections_per_minute,
        Meter.MESSAGES: section.client_messages_per_minute,
        Meter.RECIPIENTS: section.client_recipients_per_minute,
    }
    return {meter: limit for meter, limit in found.items() if limit}


class Rates:
    """The limits per minute of one receiver. paces: those that there are, mostly none."""

    def __init__(self, section: ReceiverSection, fd: int | None = None, row: int = 0, rows: int = 1) -> None:
        """fd: of memory that `rows` processes share, of which this one is number `row`, from 0."""
        self._row = row
        self.paces: dict[Meter, Pace] = {}
        self.configure(section, fd, rows)

    def configure(self, section: ReceiverSection, fd: int | None = None, rows: int = 1) -> None:
        """A new configuration: limits that stay go on counting."""
        limits = limits_of(section)
        memory = pace.shared(fd, rows, len(Meter)) if fd is not None and limits else None
        before, self.paces = self.paces, {}
        for meter, limit in limits.items():
            known = before.get(meter)
            if known is None:
                known = Pace(limit, memory, self._row, rows, meter, len(Meter))
            elif memory is not None:
                known.see(memory, rows)
            known.limit = limit
            self.paces[meter] = known

    def takes(self, meter: Meter, client: Client, now: float) -> bool:
        """Whether a client may do that once more; then it counts. now: Unix time."""
        found = self.paces.get(meter)
        if found is None or client.unlimited:
            return True
        return found.take(_EVERYBODY if meter is Meter.CONNECTIONS else place_of(client.user or client.ip), now)

    def turns_away(self, client: Client, now: float) -> bytes | None:
        """What a client hears instead of the greeting. Who comes too often himself uses up nothing of what is there
        for all."""
        if not self.paces:
            return None
        if not self.takes(Meter.CLIENT_CONNECTIONS, client, now):
            return replies.CONNECTS_TOO_OFTEN
        return None if self.takes(Meter.CONNECTIONS, client, now) else replies.TOO_MANY_IN_A_MINUTE
