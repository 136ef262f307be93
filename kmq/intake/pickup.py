"""Files of the Pickup directory: the envelope is read from the header of new mail.

Rules:    of Exchange's Pickup directory. The sender is the address in From, or that in Sender when From names several;
          the recipients are those of To, Cc and Bcc. Received, Resent-* and Bcc are removed, Date and Message-ID added
          when they are missing. X-Sender, X-Receiver and their like mean nothing here.
Promise:  pure; what it does not understand is BadFile, and names the field.
Callers:  run.pickup hands it to run.drop_taking.
"""

from kmq.config.drop import PickupSection
from kmq.intake.completion import BadHeader, Completion, Way
from kmq.intake.dropped import BadFile, Letter, origin
from kmq.intake.transaction import Sender
from kmq.model import fields
from kmq.model.envelope import Recipient, Source

#: All of them are removed, so that none is too many.
_HOPS = 1000


class Pickup:
    """Reads files by the settings of [pickup]."""

    hop_limit = _HOPS

    def __init__(self, section: PickupSection, completion: Completion) -> None:
        self.header_limit = section.header_size
        self._recipient_limit = section.recipient_limit
        self._completion = completion
        self._origin = origin(b"localhost", completion.hostname, b"Pickup")

    def read(self, header: bytes, user: str, now: float) -> Letter:
        """A letter; BadFile."""
        try:
            return self._read(header, user, now)
        except (BadHeader, fields.NotAField) as wrong:
            raise BadFile(str(wrong)) from None

    def _read(self, header: bytes, user: str, now: float) -> Letter:
        own = b"".join(one.text for one in fields.read(header) if not one.name.startswith(b"resent-"))
        recipients = self._completion.recipients(own)
        if not recipients:
            raise BadFile("there is no recipient in To, Cc or Bcc")
        if len(recipients) > self._recipient_limit:
            raise BadFile(f"{len(recipients)} recipients are more than {self._recipient_limit}")
        sender = self._completion.author(own)
        completed = self._completion.complete(own, Way.PICKUP, sender=sender, name="", now=now)
        utf8 = not (sender.isascii() and all(map(str.isascii, recipients)))
        return Letter(
            Sender(sender, utf8=utf8),
            [Recipient(one) for one in recipients],
            completed,
            Source(how="pickup", user=user),
            self._origin,
        )
