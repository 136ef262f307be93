"""Are the files of aliases and users in order, and does every alias lead to somebody?

Promise:  only looks, and asks the same tables as receivers and workers. What is found here keeps no mail from being
          taken in for others, so it is noted.
Callers:  admin.check.
"""

import os
import stat
from collections.abc import Generator, Iterable, Iterator
from itertools import islice

from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings
from kmq.config.local_connector import LOCAL
from kmq.config.people import FILE
from kmq.model.address import Address, split
from kmq.model.envelope import Recipient, Source
from kmq.model.reply import Reply
from kmq.routing.alias_text import Entry, Meaning, read_entries
from kmq.routing.aliases import read_list
from kmq.routing.table import Routes
from kmq.routing.users import PASSWD, listed_users, machine_users
from kmq.routing.watched import UnreadableFile, read_text

#: Findings of one kind that are told one by one.
_TOLD = 20

_UNREAD = "make it, or take it out of the configuration; until then unknown addresses hear 451"


def routing(settings: Settings) -> Iterator[Verdict]:
    """All files, then all aliases."""
    files = list(_files(settings))
    yield from files
    routes = Routes(settings)
    yield from _postmaster(routes, settings)
    if not settings.kmq.alias_files:
        return
    entries = routes.local.aliases.everything()
    found = [*_included(entries), *_nowhere(routes, settings, entries)]
    yield from _some(found)
    if not found and not files:
        yield Verdict(Grade.GOOD, f"{len(entries):,} aliases")


def _postmaster(routes: Routes, settings: Settings) -> Iterator[Verdict]:
    """Whether the configured postmaster is somebody."""
    address = settings.kmq.postmaster
    local_part, domain = split(address)
    boxes = routes.local.at(domain)
    if boxes is None or boxes.connector is None or routes.local.aliases.find(local_part.lower(), boxes.domain):
        return
    refusal = boxes.refusal(local_part)
    if refusal is not None and refusal.permanent:
        text = f"[kmq] postmaster = {address} has no mailbox: mail for postmaster, root and abuse goes to `postmaster`"
        yield Verdict(Grade.NOTE, text, "name somebody who reads it")


def _files(settings: Settings) -> Iterator[Verdict]:
    for path in settings.kmq.alias_files:
        yield from _some(_alias_file(path))
    for users in dict.fromkeys(one.users for one in settings.connectors if one.type in LOCAL):
        if isinstance(users, str) and (users == "passwd" or users.startswith(FILE)):
            yield from _user_file(users)


def _alias_file(path: str) -> Iterator[Verdict]:
    text = yield from _text(path, "alias file", _UNREAD)
    _, mistakes = read_entries(text, path) if text is not None else ({}, [])
    for mistake in mistakes:
        remedy = "until it is mended, what the file said before counts" if mistake.broken else ""
        yield Verdict(Grade.NOTE, f"{path}:{mistake.line}: {mistake.text}", remedy)


def _user_file(users: str) -> Iterator[Verdict]:
    path = users.removeprefix(FILE) if users.startswith(FILE) else PASSWD
    text = yield from _text(path, "users", _UNREAD)
    if text is not None:
        found = machine_users(text) if path == PASSWD else listed_users(text)
        if found.broken:
            yield Verdict(Grade.NOTE, f"users {path}: {found.broken}", "mend it; what it said before counts until then")


def _text(path: str, what: str, remedy: str) -> Generator[Verdict, None, str | None]:
    """The text of a file, None when it cannot be read; how it is goes to whoever asks."""
    try:
        text = read_text(path)
        mode = os.stat(path).st_mode
    except OSError as error:
        yield Verdict(Grade.NOTE, f"{what} {path}: {error.strerror}", remedy)
        return None
    except UnreadableFile as error:
        yield Verdict(Grade.NOTE, f"{what} {path}: {error}", remedy)
        return None
    if mode & stat.S_IWOTH:
        yield Verdict(Grade.NOTE, f"{what} {path} can be written by everybody", f"chmod o-w {path}")
    return text


def _included(entries: Iterable[Entry]) -> Iterator[Verdict]:
    paths = (one.text for entry in entries for one in entry.targets if one.meaning is Meaning.INCLUDED)
    for path in dict.fromkeys(paths):
        text = yield from _text(path, "included file", "make it; until then mail for its alias waits")
        for mistake in read_list(text)[1] if text is not None else ():
            yield Verdict(Grade.NOTE, f"{path}:{mistake.line}: {mistake.text}", "the entry is passed over")


def _nowhere(routes: Routes, settings: Settings, entries: Iterable[Entry]) -> Iterator[Verdict]:
    """Aliases of which nothing comes, and those that are asked for by nobody."""
    local = settings.kmq.local_domains
    for entry in entries:
        name, at, domain = entry.key.rpartition("@") if "@" in entry.key else (entry.key, "", "")
        if at and domain not in local:
            text = f"{entry.place}: {entry.key} is in no local domain, so nobody asks for it"
            yield Verdict(Grade.NOTE, text, f"add {domain} to local_domains in [kmq]")
        elif name and local and not entry.trouble:
            found = routes.ways("", Source()).decide(Recipient(str(Address(name, domain or local[0]))))
            if isinstance(found, Reply):
                yield Verdict(Grade.NOTE, f"{entry.place}: mail for {entry.key} {_fate(found)}: {found.text}")


def _fate(reply: Reply) -> str:
    return "goes back to its sender" if reply.permanent else "waits"


def _some(found: Iterable[Verdict]) -> Iterator[Verdict]:
    rest = iter(found)
    yield from islice(rest, _TOLD)
    more = sum(1 for _ in rest)
    if more:
        yield Verdict(Grade.NOTE, f"and {more:,} more of this kind")
