"""How long a client is waited for (reliability: slowloris): once for each command, and once for a whole message.

Law:      silent for `command_timeout` is too long, and a byte now and then is silence: only a whole command or bytes of
          a message count. A transaction has `transaction_timeout`, and the time that its bytes take at `minimum_rate`.
Promise:  while it is our turn, or the disk is behind, no time is held against the client. Looks may come at any pace.
"""

from kmq.config.sections import ReceiverSection
from kmq.intake.session import Session


class Patience:
    """With one client. received: all bytes that came from it; whoever reads adds them up."""

    __slots__ = ("_began", "_progress", "_received_before", "_section", "_since", "_transaction", "received")

    def __init__(self, section: ReceiverSection, now: float) -> None:
        self._section = section
        self._since = self._began = now
        self._progress = self._transaction = 0
        self.received = self._received_before = 0

    def is_over(self, session: Session, now: float, held: bool) -> bool:
        """To be asked every second or so. now: seconds of any clock that only goes on; held: we read no further."""
        if session.transaction != self._transaction:
            self._transaction = session.transaction
            self._began = now
            self._received_before = self.received
        if session.progress != self._progress or session.waiting or held:
            self._progress = session.progress
            self._since = now
        if session.waiting:
            return False
        return self._is_silent(now) or (session.in_transaction and self._is_slow(now))

    def _is_silent(self, now: float) -> bool:
        return now - self._since > self._section.command_timeout

    def _is_slow(self, now: float) -> bool:
        earned = (self.received - self._received_before) / self._section.minimum_rate
        return now - self._began > self._section.transaction_timeout + earned
