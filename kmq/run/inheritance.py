"""What a child is given when it is born: listening sockets, the settings, the memory of limits, the supervisor's life.

What:     `Estate` is the supervisor's side, one for each configuration; `inherit` is the child's. Descriptors keep
          their numbers; which is which stands in one environment variable.
Promise:  all children work by the very same bytes, read from the file once and sealed against any change: what is done
          to the file meanwhile, or breaks in it, is nothing to those that run. Descriptors go to children alone, not to
          programs that these start.
On crash: of the supervisor: the pipe of its life ends, which `family` hears in every child.
Callers:  the supervisor; cli.child.
"""

import fcntl
import json
import os
import pickle
import socket
from dataclasses import dataclass, field
from typing import Optional

from kmq.config import Settings
from kmq.config.sendmail import RECEIVER
from kmq.intake import pace
from kmq.model.frame import Prepare
from kmq.run.listeners import CONTROL, LOOK, QUEUE

VARIABLE = "KMQ_INHERITED"

#: Whose the Unix sockets are; all other listeners are the receivers'.
_OWNERS = {QUEUE: "scheduler", CONTROL: "scheduler", LOOK: "index"}
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Estate:
    """All that the supervisor has to give under one configuration, whose number counts from 1 in each life of kmqd. One
    that was refused had its number, too: what a child says late is never taken for a word about the next.

    sockets: name -> listener. life: the end of a pipe that nobody writes to.
    """

    def __init__(
        self, settings: Settings, sockets: dict[str, socket.socket], before: Optional["Estate"] = None
    ) -> None:
        self.settings = settings
        self.sockets = sockets
        self._heirs = 0
        self.number = before._next() if before else 1
        self._life: int
        self._held: int  # the pipe's other end, ours alone: it closes with this process
        self._life, self._held = (before._life, before._held) if before else os.pipe()
        known: dict[str, int] = before.tallies if before else {}
        self.tallies: dict[str, int] = {}
        self._sealed = sealed(settings)
        try:
            for name in _counted(settings):
                self.tallies[name] = known[name] if name in known else os.memfd_create("kmq-tally")
        except OSError:
            if before:
                self.close(before)
            raise

    def _next(self) -> int:
        """The number of one more that is to take this one's place."""
        self._heirs += 1
        return self.number + self._heirs

    def close(self, other: "Estate") -> None:
        """Closes all that the other one, which counts, does not have too; but not sockets: their owner knows whose."""
        for name, fd in self.tallies.items():
            if name not in other.tallies:
                os.close(fd)
        os.close(self._sealed)

    def share(self, role: str, cord: int = -1) -> tuple[dict[str, str], list[int]]:
        """(environment, descriptors) for a child of this role. cord: its end of the one that binds it to us."""
        sockets = {name: one.fileno() for name, one in self.sockets.items() if _is_for(role, name)}
        tallies = self.tallies if role == "receiver" else {}
        text = {
            "number": self.number,
            "settings": self._sealed,
            "life": self._life,
            "cord": cord,
            "sockets": sockets,
            "tallies": tallies,
        }
        cords = [cord] if cord >= 0 else []
        descriptors = [self._sealed, self._life, *cords, *sockets.values(), *tallies.values()]
        return {VARIABLE: json.dumps(text)}, descriptors

    def offer(self, role: str) -> tuple[Prepare, list[int]]:
        """The same for a child of this role that lives: what it is to prepare for, and the descriptors."""
        sockets = {name: one.fileno() for name, one in self.sockets.items() if _is_for(role, name)}
        tallies = self.tallies if role == "receiver" else {}
        offered = Prepare(self.number, list(sockets), list(tallies))
        return offered, [self._sealed, *sockets.values(), *tallies.values()]


def _counted(settings: Settings) -> list[str]:
    """What receivers count together."""
    local = [RECEIVER, pace.MEMORY] if settings.sendmail.socket else []
    names = [one.name for one in settings.receivers]
    return [*names, *map(pace.memory_of, names), *local]


def _is_for(role: str, name: str) -> bool:
    return role == _OWNERS.get(name, "receiver")


def sealed(settings: Settings) -> int:
    """A descriptor of the settings' bytes, which nobody can change any more, not even ourselves."""
    fd = os.memfd_create("kmq-settings", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    text = memoryview(pickle.dumps(settings))
    while text:
        text = text[os.write(fd, text) :]
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


@dataclass(slots=True, frozen=True)
class Inheritance:
    """A child's share. life: readable for ever, until the supervisor is dead; tallies: section -> shared memory.

    number: of the configuration; cord: None for a child that nobody holds.
    """

    settings: Settings
    life: int
    sockets: dict[str, socket.socket] = field(default_factory=dict)
    tallies: dict[str, int] = field(default_factory=dict)
    number: int = 1
    cord: socket.socket | None = None


def inherit() -> Inheritance:
    """What this process was given."""
    given = json.loads(os.environ.pop(VARIABLE))
    cords = [given["cord"]] if given["cord"] >= 0 else []
    descriptors = [given["settings"], given["life"], *cords, *given["sockets"].values(), *given["tallies"].values()]
    for fd in descriptors:
        os.set_inheritable(fd, False)
    settings = read_settings(given["settings"])
    sockets = {name: socket.socket(fileno=fd) for name, fd in given["sockets"].items()}
    cord = socket.socket(fileno=given["cord"]) if cords else None
    return Inheritance(settings, given["life"], sockets, given["tallies"], given["number"], cord)


def read_settings(fd: int) -> Settings:
    """What was sealed; the descriptor is closed. Read at a place, since brothers share the file's position."""
    size = os.fstat(fd).st_size
    settings = pickle.loads(os.pread(fd, size, 0))
    os.close(fd)
    assert isinstance(settings, Settings)
    return settings
