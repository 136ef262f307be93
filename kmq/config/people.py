"""Who: the users of a mailbox connector, and whose mail a connector is for.

Promise:  as in `kinds`: text becomes a value, or a ValueError says what would be right. No file is looked at.
Callers:  `connector`, which declares options with them.
"""

import os
from collections.abc import Callable
from typing import TypeVar

from kmq.config.kinds import Kind, domain_name, parts, user_name
from kmq.model.address import NotAnAddress, parse

#: Users in a file: the value is this and an absolute path.
FILE = "file:"
#: Values of `users` that are no list of names.
WORDS = ("*", "existing", "passwd")

T = TypeVar("T")


def _each(one: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    return lambda text: tuple(dict.fromkeys(one(part) for part in parts(text)))


def _users(text: str) -> str | tuple[str, ...]:
    if text in WORDS:
        return text
    if text.startswith(FILE):
        path = text.removeprefix(FILE).strip()
        if not path or "\0" in path or "\n" in path or path.startswith("~"):
            raise ValueError(f"{text!r}: behind {FILE} stands the path of one file: {FILE}/etc/kmq/users")
        return FILE + path
    if "*" in parts(text):
        raise ValueError(f"{text!r}: a star stands alone: everybody")
    return _each(user_name)(text)


def _anchored(value: str | tuple[str, ...], folder: str) -> str | tuple[str, ...]:
    if isinstance(value, str) and value.startswith(FILE):
        return FILE + os.path.join(folder, value.removeprefix(FILE))
    return value


def users() -> Kind[str | tuple[str, ...]]:
    """Who has a mailbox."""
    return Kind("*, existing, passwd, file:PATH, or a list of names", _users, _anchored)


def _sender(text: str) -> str:
    if text == "<>":
        return text
    if "@" not in text:
        star, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
        if "*" in name:
            raise ValueError(f"{text!r}: write example.org, *.example.org, or an address")
        return star + domain_name(name)
    if text[:2] == "*@":
        raise ValueError(f"{text!r}: all of a domain are written as that domain: {text[2:]}")
    try:
        local, domain = parse(text)
    except NotAnAddress as wrong:
        raise ValueError(f"{text!r} is no mail address ({wrong}): write boss@example.org, or example.org") from None
    return f"{local.lower()}@{domain_name(domain)}"


def senders() -> Kind[tuple[str, ...]]:
    """Envelope senders: `example.org`, `*.example.org`, `boss@example.org`, `<>`."""
    shape = "list of example.org (that domain), *.example.org (all below it), boss@example.org, <> (notices)"
    return Kind(shape, _each(_sender))


def _account(text: str) -> str:
    if not text.isprintable() or " " in text:
        raise ValueError(f"{text!r} is no user's name")
    return text


def accounts() -> Kind[tuple[str, ...]]:
    """Names of users as they stand in the envelope."""
    return Kind("list of names", _each(_account))
