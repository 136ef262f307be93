"""The file that an agent reads a message from: made when the message is handed over, gone when it is answered.

Shape:    agents/CONNECTOR.WORKER.NUMBER.eml in the spool: the message as it goes out by this connector, CRLF line ends.
Promise:  for kmqd's user alone, and a copy: whatever the agent does with it, the queue's is as it was. No link is
          followed.
On crash: what a worker leaves is removed by the next one of its number, and all of it when kmqd starts. It is no mail:
          the queue has it.
Callers:  phases.agent, in threads: everything here blocks.
"""

import os
import re
from collections.abc import Iterator

from kmq.model.reply import Reply
from kmq.phases.body import BodyDamaged
from kmq.phases.rendering import Rendering, as_it_is, written
from kmq.phases.rewriting import Rewriter
from kmq.phases.work import Work

#: Below the spool.
FOLDER = "agents"

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OURS = re.compile(r".+\.(\d+)\.\d+\.eml")


class File:
    """path: where it is; rendering: what stands in it."""

    __slots__ = ("path", "rendering")

    def __init__(self, path: str, rendering: Rendering) -> None:
        self.path = path
        self.rendering = rendering

    def remove(self) -> None:
        """It was answered."""
        remove(self.path)


def write(work: Work, rewriter: Rewriter | None, path: str) -> File | Reply | BodyDamaged:
    """The file of a message; the reply says why there is none."""
    try:
        rendering = as_it_is(work, rewriter)
        _write(path, written(work, rendering))
    except BodyDamaged as damage:
        remove(path)
        return damage
    except OSError as error:
        remove(path)
        return Reply(451, "4.3.0", f"cannot write the message down for the agent: {error.strerror or error}")
    return File(path, rendering)


def _write(path: str, pieces: Iterator[bytes]) -> None:
    remove(path)
    with open(os.open(path, _NEW, 0o600), "wb", buffering=0) as file:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[file.write(view) :]


def remove(path: str) -> None:
    """Takes a file away; that it is gone already is no trouble."""
    try:
        os.unlink(path)
    except OSError:
        pass


def clear(spool: str, worker: int = 0) -> None:
    """Removes what a worker of this number left, 0: all workers."""
    try:
        names = os.listdir(f"{spool}/{FOLDER}")
    except OSError:
        return
    for name in names:
        found = _OURS.fullmatch(name)
        if found is not None and (not worker or int(found[1]) == worker):
            remove(f"{spool}/{FOLDER}/{name}")
