"""The accidents of kmq. What the world answers (a 550, a full queue) is a value, not one of these.

Promise:  each class has one reader: the exit status in `exit_status` is what a program ends with when nobody
          catches it (sysexits: 75 try again, 78 configuration wrong).
"""

import re

#: Where in its own source Python's ssl module gave up: nothing to an operator.
_SOURCE = re.compile(r" \(_ssl\.c:\d+\)$")


def openssl_text(error: BaseException) -> str:
    """What OpenSSL says is wrong, as a person is to read it; "" when it says nothing."""
    return _SOURCE.sub("", str(error.args[-1])) if error.args else ""


class KmqError(Exception):
    """Something went wrong that kmq can name. The text is written for the operator."""

    exit_status = 1


class ConfigError(KmqError):
    """The configuration is wrong; the text names file, line, and what would be right."""

    exit_status = 78


class SpoolError(KmqError):
    """The spool cannot be used as it is: wrong format, not a folder, no permission, damaged log."""

    exit_status = 78


class SpoolLocked(KmqError):
    """Another process owns the spool."""

    exit_status = 75


class ListenFailed(KmqError):
    """An address cannot be listened on now; another start may find it free."""

    exit_status = 75


class StorageFailed(KmqError):
    """A sync failed, so nothing that the kernel says about this mount can be trusted any more (J7)."""

    exit_status = 75


class Unreachable(KmqError):
    """kmqd does not answer on its control socket."""

    exit_status = 75


class FilterError(KmqError):
    """A filter, an order or a bookmark cannot be understood; the text shows the place, and the names that exist."""

    exit_status = 2


class UsageError(KmqError):
    """What was asked for cannot be understood, or is not said clearly enough to be done."""

    exit_status = 2
