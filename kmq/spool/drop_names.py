"""The names of a file in a drop directory: `.eml` waits, `.tmp` is being taken, `.bad` cannot be a message.

Promise:  pure. A name that is not `unfit` can be printed, logged and written in the journal as it is, and has room for
          all endings that are still to come.
Callers:  spool.drop.
"""

import os
import time
from collections.abc import Iterator

WAITING, TAKEN, BAD = ".eml", ".tmp", ".bad"
REASON = ".reason"

#: Bytes of a name: 255 are allowed, and a time, `.bad` and `.reason` may be added.
LIMIT = 220

#: Names that are tried before a folder full of the same ones is given up.
_TRIES = 100


def waits(name: str) -> bool:
    """Whether a file of this name is to be taken; `.EML` is as good."""
    return name[-4:].lower() == WAITING


def taken(name: str) -> bool:
    """Whether a file of this name was being taken."""
    return name.endswith(TAKEN)


def unfit(name: str) -> str:
    """Why nobody can do anything with a name that `waits` or is `taken`; "" when it is good."""
    if len(os.fsencode(name)) > LIMIT:
        return f"its name is longer than {LIMIT} bytes"
    if not name.isprintable():
        return "its name has control characters, or is not UTF-8"
    return ""


def hidden(name: str) -> bool:
    """Names that begin with a dot are still being written, by everybody's custom."""
    return name.startswith(".")


def successors(name: str, ending: str, now: float) -> Iterator[str]:
    """What a file is to be called next, `letter.tmp`, and where that is another's, `letter-20261122094451123.tmp`."""
    stem = name[:-4]
    yield stem + ending
    for moment in range(int(now * 1000), int(now * 1000) + _TRIES):
        clock = time.strftime("%Y%m%d%H%M%S", time.gmtime(moment // 1000))
        yield f"{stem}-{clock}{moment % 1000:03}{ending}"
