"""What happens to which header field on which way in: one table, which docs/headers.md shows.

Promise:  the table is all there is: `completion` does what stands here and nothing else, and a field that has no row
          is kept as it came.
Callers:  intake.completion.
"""

from enum import Enum
from typing import NamedTuple


class Way(Enum):
    """How a message comes in; the columns of the table."""

    SMTP = "port 25"  #: from other servers: nobody else's mail is rewritten here
    SUBMISSION = "submission"  #: a receiver with `submission = yes`
    SENDMAIL = "sendmail"  #: the recipients are arguments
    SENDMAIL_T = "sendmail -t"  #: the recipients are read from the header
    PICKUP = "Pickup"  #: a file of an administrator or a program
    REPLAY = "Replay"  #: a file that was a message already


class Treatment(Enum):
    """What is done to a field; the cells of the table."""

    KEPT = "kept"
    ON_TOP = "kept; ours goes on top"  #: by intake.arrival, which knows the ID
    RENEWED = "removed; ours goes on top"
    REMOVED = "removed"
    ADDED = "added when missing"
    MENDED = "added when missing or no date"
    QUALIFIED = "completed"  #: bare addresses get a domain
    FILLED = "added when missing; completed"
    UNDISCLOSED = "completed; added when nobody is named"
    RESENT = "added when others of Resent- are there"
    RESENT_FILLED = "added when others of Resent- are there; completed"


class Row(NamedTuple):
    """A field's treatment on each way. once: a message that has it twice is refused, by whatever way but port 25."""

    field: str
    smtp: Treatment
    submission: Treatment
    sendmail: Treatment
    sendmail_t: Treatment
    pickup: Treatment
    replay: Treatment
    once: bool = False

    def on(self, way: Way) -> Treatment:
        """The cell."""
        cell: Treatment = getattr(self, way.name.lower())
        return cell


_T = Treatment


def _alike(field: str, others: Treatment, sendmail_t: Treatment, pickup: Treatment, replay: Treatment) -> Row:
    """Port 25 keeps it, submission and sendmail treat it alike."""
    return Row(field, _T.KEPT, others, others, sendmail_t, pickup, replay)


TABLE: tuple[Row, ...] = (
    Row("Received", _T.ON_TOP, _T.ON_TOP, _T.ON_TOP, _T.ON_TOP, _T.RENEWED, _T.ON_TOP),
    _alike("Return-Path", _T.REMOVED, _T.REMOVED, _T.REMOVED, _T.REMOVED),
    _alike("Delivered-To", _T.KEPT, _T.KEPT, _T.KEPT, _T.KEPT),
    _alike("X-Original-To", _T.KEPT, _T.KEPT, _T.KEPT, _T.KEPT),
    _alike("Auto-Submitted", _T.KEPT, _T.KEPT, _T.KEPT, _T.KEPT),
    _alike("Date", _T.ADDED, _T.ADDED, _T.MENDED, _T.MENDED),
    _alike("Message-ID", _T.ADDED, _T.ADDED, _T.ADDED, _T.ADDED),
    _alike("From", _T.FILLED, _T.FILLED, _T.FILLED, _T.KEPT)._replace(once=True),
    _alike("Sender", _T.QUALIFIED, _T.QUALIFIED, _T.QUALIFIED, _T.KEPT)._replace(once=True),
    _alike("Reply-To", _T.QUALIFIED, _T.QUALIFIED, _T.QUALIFIED, _T.KEPT),
    _alike("To", _T.QUALIFIED, _T.UNDISCLOSED, _T.UNDISCLOSED, _T.KEPT),
    _alike("Cc", _T.QUALIFIED, _T.QUALIFIED, _T.QUALIFIED, _T.KEPT),
    _alike("Bcc", _T.QUALIFIED, _T.REMOVED, _T.REMOVED, _T.REMOVED),
    _alike("Resent-Date", _T.RESENT, _T.RESENT, _T.REMOVED, _T.KEPT),
    _alike("Resent-Message-ID", _T.RESENT, _T.RESENT, _T.REMOVED, _T.KEPT),
    _alike("Resent-From", _T.RESENT_FILLED, _T.RESENT_FILLED, _T.REMOVED, _T.KEPT),
    _alike("Resent-Sender", _T.QUALIFIED, _T.QUALIFIED, _T.REMOVED, _T.KEPT),
    _alike("Resent-Reply-To", _T.QUALIFIED, _T.QUALIFIED, _T.REMOVED, _T.KEPT),
    _alike("Resent-To", _T.QUALIFIED, _T.QUALIFIED, _T.REMOVED, _T.KEPT),
    _alike("Resent-Cc", _T.QUALIFIED, _T.QUALIFIED, _T.REMOVED, _T.KEPT),
    _alike("Resent-Bcc", _T.QUALIFIED, _T.REMOVED, _T.REMOVED, _T.REMOVED),
)

#: Way -> name of a field in lower case -> what is done to it.
TREATMENTS: dict[Way, dict[bytes, Treatment]] = {
    way: {row.field.lower().encode(): row.on(way) for row in TABLE} for way in Way
}

#: Fields that may be there once.
ONCE = frozenset(row.field.lower().encode() for row in TABLE if row.once)
