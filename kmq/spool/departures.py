"""Removed messages whose names in the queue wait until those that they got elsewhere are durable: in sent/, in backup/.

Promise:  a name in the queue goes only when the body is durably known by the others (J4a, J4b); some hundred messages
          share the sync. What a checkpoint has synced meanwhile needs none.
On crash: recovery makes from the records what is missing there.
Callers:  effects, the net and the archive; the store at a checkpoint. One thread, but for `finished` and `idle`.
"""

import contextlib

from kmq.spool import layout
from kmq.spool.homes import Homes

#: Messages whose names in the queue go after one sync.
TOGETHER = 200
_KEPT = f"{layout.SENT}/"


class Departures:
    """New names that may not be durable, and the old ones that wait for them."""

    def __init__(self, homes: Homes) -> None:
        self.homes = homes
        self._unsynced: dict[int, dict[str, int]] = {}  # ID -> folder -> generation of the record that named it
        self._leaving: dict[int, tuple[int, tuple[str, ...]]] = {}  # removed: (generation, folders)

    def named(self, number: int, place: str, generation: int = 0) -> None:
        """A message has got names in a folder, which may not be durable."""
        self._unsynced.setdefault(number, {})[place] = generation

    def forget(self, number: int) -> None:
        """Nobody waits for its names elsewhere."""
        self._unsynced.pop(number, None)

    def synced(self, generation: int) -> None:
        """Every name of this generation and of older ones is durable (J3)."""
        for number, places in list(self._unsynced.items()):
            left = {place: made for place, made in places.items() if made > generation}
            if left:
                self._unsynced[number] = left
            else:
                del self._unsynced[number]

    def leaves(self, generation: int, number: int) -> bool:
        """A message is removed: whether its names in the queue have to wait."""
        places = self._unsynced.pop(number, None)
        if places:
            self._leaving[number] = generation, tuple(places)
        return bool(places)

    @property
    def full(self) -> bool:
        """Whether enough wait for one sync."""
        return len(self._leaving) >= TOGETHER

    @property
    def idle(self) -> bool:
        return not self._leaving

    def finished(self, generation: int) -> bool:
        """Whether nothing of this generation or an older one still has to leave (J3)."""
        waits = list(self._leaving.values())
        return min((made for made, _ in waits), default=generation + 1) > generation

    def let_go(self) -> list[tuple[int, int]]:
        """The new names are durable, or StorageFailed; then the old ones go. -> (generation, ID) of what could not."""
        if not self._leaving:
            return []
        self._sync({place for _, places in self._leaving.values() for place in places})
        stuck = []
        for number, (generation, _) in self._leaving.items():
            try:
                self.homes.leave(number, self.homes.of(number))
                self.homes.moved(number, "queue")
            except OSError:
                stuck.append((generation, number))
        self._leaving.clear()
        return stuck

    def _sync(self, places: set[str]) -> None:
        """In sent/ all that is new is names; what is archived has an envelope of its own, whose content counts too."""
        disk = self.homes.disk
        with self.homes.note.around(disk):
            if not all(place.startswith(_KEPT) for place in places):
                disk.sync_all()
                return
            for place in sorted(places):
                with contextlib.suppress(FileNotFoundError):  # the whole folder was let go of
                    disk.sync_folder(place)
            disk.sync_folder(layout.SENT)
