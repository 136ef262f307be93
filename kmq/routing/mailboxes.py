"""The mailboxes of one local domain: who has one.

Promise:  an answer for RCPT time, in about a microsecond; nobody is known whose name could leave the mailboxes' root.
          With `users = existing` the disk is asked, each time, so that a new Maildir counts at once; trouble with the
          disk is a temporary answer.
"""

import os

from kmq.config import ConnectorSection
from kmq.model.mailbox import POSTMASTER, folder, user_of
from kmq.model.reply import Reply

UNKNOWN = Reply(550, "5.1.1", "No such user here")
LOOKUP_FAILED = Reply(451, "4.3.0", "Mailbox lookup failed, try again later")
NO_CONNECTOR = Reply(451, "4.3.5", "Mailboxes of this domain are not set up, try again later")


class Mailboxes:
    """A local domain and the connector that serves it, None while no connector does."""

    __slots__ = ("_domain", "_listed", "_maildir", "_users", "connector")

    def __init__(self, domain: str, connector: ConnectorSection | None) -> None:
        self.connector = connector
        self._domain = domain
        self._maildir = connector.maildir if connector else ""
        self._users = connector.users if connector else ""
        self._listed = frozenset(self._users) if isinstance(self._users, tuple) else frozenset()

    def refusal(self, local_part: str) -> Reply | None:
        """What RCPT hears about a local part (unquoted): None when its mail is taken in."""
        if local_part in self._listed:
            return None
        user = user_of(local_part)
        if user is None:
            return UNKNOWN
        if user == POSTMASTER or user in self._listed:
            return None
        match self._users:
            case "*":
                return None
            case "existing":
                return self._look(user)
            case "":
                return NO_CONNECTOR
            case _:
                return UNKNOWN

    def _look(self, user: str) -> Reply | None:
        try:
            os.stat(os.path.join(folder(self._maildir, user, self._domain), "new"))
        except (FileNotFoundError, NotADirectoryError):
            return UNKNOWN
        except OSError:
            return LOOKUP_FAILED
        return None
