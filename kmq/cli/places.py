"""Where the socket for programs is: found without a look at the configuration, where kmqd is installed as usual.

Promise:  whoever may not read the configuration finds the usual place. Nobody is led elsewhere by a stranger: not by
          an option that a program passes on, not by the environment of a set-uid program's user, nor by a folder that
          somebody left where others work.
Callers:  cli.sendmail.
Start:    to read the configuration costs more than all the rest, and is the last resort.
"""

import os
from collections.abc import Callable, Iterator

from kmq.cli.handover import USUAL
from kmq.cli.letter import Fault


def places(named: str) -> Callable[[], Iterator[str]]:
    """Where kmqd may listen: where it is said to, else at its usual place, else where its configuration says.

    named: by -C. The places are found anew each time that they are asked for, and not before.
    """

    def found() -> Iterator[str]:
        path = configuration(named)
        if not path:
            yield USUAL
        place = _configured(path)
        if path and not place:
            raise Fault(os.EX_UNAVAILABLE, f"{path}: [sendmail] socket is empty, so kmqd takes no mail from programs")
        if place and (path or place != USUAL):
            yield place

    return found


def configuration(named: str) -> str:
    """The file that was named. -C is for root: a program that others feed with options must not be led elsewhere."""
    if named and os.geteuid() == 0:
        return named
    return os.environ.get("KMQ_CONF", "") if os.getuid() == os.geteuid() else ""


def _configured(path: str) -> str:
    """What the configuration says; "" when there is none, or it is not for this user. Fault for one that was named."""
    from kmq.config import load_or_embedded
    from kmq.errors import ConfigError

    try:
        if not path and _foreign("spool"):
            return ""
        return load_or_embedded(path or None).sendmail.socket
    except ConfigError as error:
        if path:
            raise Fault(os.EX_CONFIG, str(error)) from None
        return ""


def _foreign(folder: str) -> bool:
    """The spool of a trial in the current folder is somebody else's: mail is not for him."""
    try:
        return os.stat(folder).st_uid not in (0, os.geteuid())
    except OSError:
        return False
