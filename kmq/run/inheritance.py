"""What a child is given when it is born: listening sockets, the settings, the memory of limits, the supervisor's life.

What:     `Estate` is the supervisor's side, `inherit` the child's. Descriptors keep their numbers through exec; which
          is which stands in one environment variable.
Promise:  a child works by the settings that the supervisor has accepted, not by what the file says by then: a broken
          file breaks nothing that runs. Descriptors go to children alone, not to programs that these start.
On crash: of the supervisor: the pipe of its life ends, which `family` hears in every child.
Callers:  the supervisor; cli.kmqd in a child.
"""

import json
import os
import pickle
import socket
from dataclasses import dataclass, field

from kmq.config import Settings
from kmq.run.listeners import CONTROL, QUEUE

VARIABLE = "KMQ_INHERITED"

_SCHEDULERS = (QUEUE, CONTROL)


class Estate:
    """All that the supervisor has to give. life: the end of a pipe that nobody writes to."""

    def __init__(self, settings: Settings, sockets: dict[str, socket.socket]) -> None:
        self._sockets = sockets
        self._life, self._held = os.pipe()  # the other end is ours alone: it closes with this process
        self._tallies = {section.name: os.memfd_create("kmq-tally") for section in settings.receivers}
        self._settings = -1
        self.accept(settings)

    def accept(self, settings: Settings) -> None:
        """Children that are born from now on get these settings."""
        if self._settings >= 0:
            os.close(self._settings)
        self._settings = os.memfd_create("kmq-settings")
        text = memoryview(pickle.dumps(settings))
        while text:
            text = text[os.write(self._settings, text) :]

    def share(self, role: str) -> tuple[dict[str, str], list[int]]:
        """(environment, descriptors) for a child of this role."""
        sockets = {
            name: one.fileno()
            for name, one in self._sockets.items()
            if (role == "scheduler" and name in _SCHEDULERS) or (role == "receiver" and name not in _SCHEDULERS)
        }
        tallies = self._tallies if role == "receiver" else {}
        text = {"settings": self._settings, "life": self._life, "sockets": sockets, "tallies": tallies}
        descriptors = [self._settings, self._life, *sockets.values(), *tallies.values()]
        return {VARIABLE: json.dumps(text)}, descriptors


@dataclass(slots=True, frozen=True)
class Inheritance:
    """A child's share. life: readable for ever, until the supervisor is dead; tallies: section -> shared memory."""

    settings: Settings
    life: int
    sockets: dict[str, socket.socket] = field(default_factory=dict)
    tallies: dict[str, int] = field(default_factory=dict)


def inherit() -> Inheritance | None:
    """What this process was given; None when no supervisor started it."""
    text = os.environ.pop(VARIABLE, "")
    if not text:
        return None
    given = json.loads(text)
    descriptors = [given["settings"], given["life"], *given["sockets"].values(), *given["tallies"].values()]
    for fd in descriptors:
        os.set_inheritable(fd, False)
    settings = _read_settings(given["settings"])
    sockets = {name: socket.socket(fileno=fd) for name, fd in given["sockets"].items()}
    return Inheritance(settings, given["life"], sockets, given["tallies"])


def _read_settings(fd: int) -> Settings:
    """Read at a place, since brothers share the file's position."""
    size = os.fstat(fd).st_size
    settings = pickle.loads(os.pread(fd, size, 0))
    os.close(fd)
    assert isinstance(settings, Settings)
    return settings
