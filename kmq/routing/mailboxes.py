"""The mailboxes of one local domain: who has one.

Promise:  an answer for RCPT time, in about a microsecond; nobody is known whose name could leave the mailboxes' root.
          With `users = existing` the disk is asked, each time, so that a new Maildir counts at once; trouble with the
          disk, or with a file of users that was never good, is a temporary answer.
Callers:  routing.local.
"""

import os

from kmq.config import ConnectorSection
from kmq.config.people import FILE
from kmq.model.mailbox import POSTMASTER, folder, user_of
from kmq.model.reply import Reply
from kmq.routing.users import PASSWD, Users, listed_users, machine_users
from kmq.routing.watched import Watched

UNKNOWN = Reply(550, "5.1.1", "No such user here")
LOOKUP_FAILED = Reply(451, "4.3.0", "Mailbox lookup failed, try again later")
NO_CONNECTOR = Reply(451, "4.3.5", "Mailboxes of this domain are not set up, try again later")


class Directory:
    """Files of users, each read once for all domains."""

    def __init__(self) -> None:
        self._files: dict[str, Watched[Users]] = {}

    def file(self, users: str | tuple[str, ...]) -> Watched[Users] | None:
        """The file that a connector's `users` names, None when it names none."""
        if users == "passwd":
            return self._watched(PASSWD, machine=True)
        if isinstance(users, str) and users.startswith(FILE):
            return self._watched(users.removeprefix(FILE), machine=False)
        return None

    def _watched(self, path: str, machine: bool) -> Watched[Users]:
        key = path if machine else FILE + path
        if key not in self._files:
            self._files[key] = Watched(path, machine_users if machine else listed_users, frozenset())
        return self._files[key]


class Mailboxes:
    """A local domain (canonical) and the connector that serves it, None while no connector does."""

    __slots__ = ("_file", "_listed", "_there", "_users", "connector", "domain")

    def __init__(self, domain: str, connector: ConnectorSection | None, directory: Directory) -> None:
        self.connector = connector
        self.domain = domain
        self._there = _there(connector) if connector else ""
        self._users = connector.users if connector else ""
        self._file = directory.file(self._users)
        self._listed = frozenset(self._users) if isinstance(self._users, tuple) else frozenset()

    def refusal(self, local_part: str) -> Reply | None:
        """What RCPT hears about a local part (unquoted): None when its mail is taken in."""
        return None if local_part in self._listed else self.refusal_of(user_of(local_part))

    def refusal_of(self, user: str | None) -> Reply | None:
        """The same for a user's name, None for a local part that is none."""
        if user is None:
            return UNKNOWN
        return None if user == POSTMASTER else self._look_up(user)

    def has(self, user: str) -> bool:
        """Whether a user's mailbox is named or there: where everybody has one, nobody's is."""
        return bool(self._users) and self._users != "*" and self._look_up(user) is None

    @property
    def catch_all(self) -> str:
        """The user who gets what is for nobody, by the connector; "" for none."""
        return self.connector.catch_all if self.connector else ""

    @property
    def asks_disk(self) -> bool:
        """Whether each answer costs a look at the disk."""
        return self._users == "existing"

    def _look_up(self, user: str) -> Reply | None:
        if self._file is not None:
            return self._look_into(self._file, user)
        match self._users:
            case "*":
                return None
            case "existing":
                return self._look_for(user)
            case "":
                return NO_CONNECTOR
            case _:
                return None if user in self._listed else UNKNOWN

    def _look_into(self, file: Watched[Users], user: str) -> Reply | None:
        users = file.current()
        if user in users or f"{user}@{self.domain}" in users:
            return None
        return UNKNOWN if file.whole else LOOKUP_FAILED

    def _look_for(self, user: str) -> Reply | None:
        try:
            os.stat(folder(self._there, user, self.domain))
        except (FileNotFoundError, NotADirectoryError):
            return UNKNOWN
        except OSError:
            return LOOKUP_FAILED
        return None


def _there(connector: ConnectorSection) -> str:
    """The template of what is there where a mailbox is."""
    return connector.mbox or f"{connector.maildir}/new"
