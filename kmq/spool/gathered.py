"""Messages that are gone before their files were begun, and of which something is kept all the same (J4a, J4b).

Does:     holds such a message as its records tell it, from its put's turn to that of its remove; whoever keeps it has
          its two files made where they belong, and nowhere else. The body is written once and has a name in each place.
Promise:  until the remove has had its turn no checkpoint covers the put; then the checkpoint's sync makes what was made
          here durable.
On crash: recovery makes from the records what is missing.
Callers:  effects; net and archive make files of what is here. One thread, but for `expect`: what that adds is only
          looked up by the other.
"""

import errno
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from kmq.spool import layout
from kmq.spool.homes import Homes
from kmq.spool.record import Put

#: A file that gets no further name somewhere is copied: on another file system (something was mounted since), or it has
#: all the names that it can have.
UNLINKABLE = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP})


@dataclass(slots=True)
class Gathered:
    """One message, its put and the lines behind it. generation: of the put; body: a name that its file has by now."""

    put: Put | None = None
    generation: int = 0
    lines: list[bytes] = field(default_factory=list)
    body: str = ""

    @property
    def envelope(self) -> bytes:
        """Its text, as far as the records have told it."""
        assert self.put is not None, "a put has its turn before what follows it"
        return b"\n".join([self.put.line, *self.lines])


class Gathering:
    """All of them."""

    def __init__(self, homes: Homes) -> None:
        self._homes = homes
        self._messages: dict[int, Gathered] = {}
        self._awaited: Counter[int] = Counter()  # puts among those, by generation

    def expect(self, number: int) -> None:
        """Its put waits for its turn, and behind it durably its end: what follows is gathered instead of made."""
        self._messages.setdefault(number, Gathered())

    def of(self, number: int) -> Gathered | None:
        return self._messages.get(number)

    def take(self, generation: int, put: Put) -> None:
        """Its put has its turn."""
        one = self._messages[put.id]
        self._awaited[generation] += one.put is None  # it may have its turn again
        one.put, one.generation = put, generation

    def take_line(self, number: int, line: bytes) -> None:
        """So has an event of it; of a message that is not gathered nothing is wanted."""
        one = self._messages.get(number)
        if one is not None:
            one.lines.append(line)

    def make(self, one: Gathered, place: str) -> None:
        """Its files in a folder of the spool's file system, as it is now; done again it ends in the same files."""
        assert one.put is not None, "a put has its turn before what follows it"
        name = layout.body(one.put.id, place)
        self._make_body(one, one.put, name)
        self._homes.make(layout.envelope(one.put.id, place), one.envelope, again=True)
        one.body = name

    def _make_body(self, one: Gathered, put: Put, name: str) -> None:
        old = one.body or (f"incoming/{put.incoming}" if put.body is None else "")
        if old == name:
            return
        if old:
            self._homes.unlink(name)
            try:
                self._homes.link(old, name)
                return
            except OSError as error:
                if put.body is None or error.errno not in UNLINKABLE:
                    raise
        if put.body is not None:
            self._homes.make(name, put.body, again=True)

    def pieces(self, one: Gathered) -> Iterable[bytes | memoryview]:
        """Its body."""
        assert one.put is not None, "a put has its turn before what follows it"
        if one.put.body is not None:
            return (one.put.body,)
        return self._homes.disk.pieces(f"incoming/{one.put.incoming}")

    def end(self, number: int) -> str:
        """Its remove has its turn. -> the name of its body in incoming/, which nobody needs from now on, or ""."""
        one = self._messages.pop(number, None)
        if one is None or one.put is None:
            return ""
        self._awaited[one.generation] -= 1
        if not self._awaited[one.generation]:
            del self._awaited[one.generation]
        return one.put.incoming

    @property
    def idle(self) -> bool:
        return not self._messages

    def finished(self, generation: int) -> bool:
        """Whether nothing of this generation or an older one is still to be done here (J3)."""
        return min(self._awaited, default=generation + 1) > generation
