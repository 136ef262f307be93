"""The aliases of all alias files, and the lists that they include.

Order:    for `local@domain`: the alias `local@domain`, then without `+detail`, then `local` (of every local domain),
          then without `+detail`. `@domain` stands for those who are nobody else, and is asked for apart.
Promise:  a lookup is at most four dict lookups. `never_good` names a file that was never good: what is not found then
          may be in it. An included file is read when it is needed; one that cannot be read defers its alias, and what
          in it is no address is passed over, with a line in the log: others keep such lists, and one bad line must not
          stop the mail of all. It is not followed through a link.
Callers:  routing.local, routing.expanding, admin.check_routing.
"""

import os
import time
from collections import OrderedDict
from typing import NamedTuple

from kmq import log
from kmq.model.mailbox import DELIMITER
from kmq.routing.alias_text import Entry, Mistake, NoTarget, Target, pieces, read_entries, read_target
from kmq.routing.watched import SETTLED, Content, UnreadableFile, Watched, read_text

#: Included files that are remembered.
LISTS = 200

Entries = dict[str, Entry]


class Aliases:
    """The alias files of a configuration, the first of them the strongest."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._files = [_watched(path) for path in paths]
        self._seen: list[int] = []
        self._merged: Entries = {}
        self.included = Included()

    def find(self, local: str, domain: str) -> Entry | None:
        """The alias of a local part (unquoted, in lower case) in a local domain."""
        entries = self._current()
        if not entries:
            return None
        found = entries.get(f"{local}@{domain}")
        base = local.partition(DELIMITER)[0]
        if found is None and base != local:
            found = entries.get(f"{base}@{domain}")
        if found is None:
            found = entries.get(local)
        if found is None and base != local:
            found = entries.get(base)
        return found

    def catch_all(self, domain: str) -> Entry | None:
        """Who gets the mail for those of a local domain who are nobody."""
        return self._current().get(f"@{domain}")

    def everything(self) -> list[Entry]:
        """All that counts."""
        return list(self._current().values())

    @property
    def never_good(self) -> str:
        """The path of a file that was not good at any time yet, "" when there is none."""
        return next((file.path for file in self._files if not file.whole), "")

    def _current(self) -> Entries:
        if not self._files:
            return self._merged
        for file in self._files:
            file.current()
        seen = [file.changes for file in self._files]
        if seen != self._seen:
            self._seen = seen
            self._merged = {key: entry for file in reversed(self._files) for key, entry in file.value.items()}
        return self._merged


def _watched(path: str) -> Watched[Entries]:
    def understand(text: str) -> Content[Entries]:
        entries, mistakes = read_entries(text, path)
        broken = next((f"line {one.line}: {one.text}" for one in mistakes if one.broken), "")
        for one in mistakes:
            if not one.broken:
                log.warning("an alias is not as it should be", file=path, line=one.line, why=one.text)
        return Content(entries, broken)

    return Watched(path, understand, {})


# --- :include: --------------------------------------------------------------------------------------------------------


class List(NamedTuple):
    """What an included file says. trouble: why it cannot be read now, or ""."""

    targets: tuple[Target, ...]
    trouble: str = ""


class Included:
    """The included files, read again when they have changed; the last ones that were asked for are remembered."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[tuple[int, ...], List]] = OrderedDict()

    def read(self, path: str) -> List:
        """What stands in a file now."""
        try:
            found = os.stat(path, follow_symlinks=False)
            signature = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev)
            known = self._known.get(path)
            if known is not None and known[0] == signature:
                self._known.move_to_end(path)
                return known[1]
            targets, mistakes = read_list(read_text(path, os.O_NOFOLLOW))
        except OSError as error:
            return List((), f"{path} cannot be read: {error.strerror}")
        except UnreadableFile as error:
            return List((), f"{path} cannot be read: {error}")
        for one in mistakes:
            log.warning("an entry of a list is passed over", file=path, line=one.line, why=one.text)
        read = List(targets)
        if time.time() - found.st_mtime < SETTLED:
            return read  # the next change may bear the same time
        self._known[path] = signature, read
        if len(self._known) > LISTS:
            self._known.popitem(last=False)
        return read


def read_list(text: str) -> tuple[tuple[Target, ...], list[Mistake]]:
    """The targets of an included file's text: entries on lines of their own, or with commas between them."""
    found: dict[Target, None] = {}
    mistakes: list[Mistake] = []
    for number, line in enumerate(text.split("\n"), 1):
        for piece in pieces(line) if line.lstrip()[:1] != "#" else ():
            try:
                found[read_target(piece)] = None
            except NoTarget as wrong:
                mistakes.append(Mistake(number, str(wrong), broken=False))
    return tuple(found), mistakes
