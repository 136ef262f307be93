"""May kmqd's user read, and run, what the configuration names? Whoever asks may be root, to whom all of it is open.

Promise:  only looks, at modes; whether a file is there and good is for others to say. Each file is told of once.
Callers:  admin.check.
"""

import os
from collections.abc import Iterator
from pwd import getpwuid, struct_passwd
from typing import NamedTuple

from kmq.admin.modes import group_name, kmqd_s_uid, may_read, may_run
from kmq.admin.verdict import Grade, Verdict
from kmq.config import ConnectorSection, ReceiverSection, Settings
from kmq.config.people import FILE

#: Options that name a program and its arguments; all others name a file that is read.
_PROGRAMS = ("command", "token_command")
_OF_RECEIVERS = ("tls_certificate", "tls_key")
_OF_CONNECTORS = ("password_file", "token_file", "tls_ca_file", "tls_certificate", "tls_key", *_PROGRAMS)


class _Named(NamedTuple):
    section: str
    option: str
    path: str

    @property
    def program(self) -> bool:
        return self.option in _PROGRAMS


def files(settings: Settings) -> Iterator[Verdict]:
    """Nothing is said where kmqd's user asks: what he cannot open he sees by himself."""
    user = kmqd_s_uid(settings)
    if user == os.geteuid():
        return
    first: dict[str, _Named] = {}
    for named in _named(settings):
        first.setdefault(named.path, named)
    for named in first.values():
        try:
            may = may_run(user, named.path) if named.program else may_read(user, named.path)
        except OSError:
            continue
        if not may:
            yield _shut(settings, named, getpwuid(user))


def _named(settings: Settings) -> Iterator[_Named]:
    for path in settings.kmq.alias_files:
        yield _Named("kmq", "alias_files", path)
    for receiver in settings.receivers:
        yield from _named_by(receiver, _OF_RECEIVERS)
    for connector in settings.connectors:
        yield from _named_by(connector, _OF_CONNECTORS)
        if isinstance(connector.users, str) and connector.users.startswith(FILE):
            yield _Named(connector.name, "users", connector.users.removeprefix(FILE))


def _named_by(section: ReceiverSection | ConnectorSection, options: tuple[str, ...]) -> Iterator[_Named]:
    for option in options:
        value = getattr(section, option)
        if value:
            yield _Named(section.name, option, value[0] if option in _PROGRAMS else value)


def _shut(settings: Settings, named: _Named, user: struct_passwd) -> Verdict:
    place = f"{settings.origin(named.section, named.option).place}: [{named.section}] {named.option}: {named.path}"
    verb, right = ("run", "x") if named.program else ("read", "r")
    text = f"{place} cannot be {verb} by {user.pw_name}, who kmqd runs as"
    change = f"chgrp {group_name(user.pw_gid)} {named.path} && chmod g+{right} {named.path}"
    return Verdict(Grade.WRONG, text, f"{change}; every folder on the way has to let him pass")
