"""What the value of an option may be: durations, sizes, networks, hosts, and so on.

Promise:  a kind turns text into a value or raises ValueError, whose text says what is wrong and what would be right;
          it looks at nothing but the text.
Callers:  `sections` declares options with kinds; `reading` parses with them; `printed` shows their shape.
"""

import os
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Generic, TypeVar

from kmq.model.domain import canonical
from kmq.model.mailbox import user_of

T = TypeVar("T")

Network = IPv4Network | IPv6Network
Endpoint = tuple[str, int]

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
SMTP_PORT = 25
DNS_PORT = 53


class Kind(Generic[T]):
    """One kind of value.

    shape:  what is allowed, as the manual says it.
    parse:  text -> value; ValueError for the operator's eyes.
    anchor: for paths: (value, folder) -> the same with a relative path counted from that folder.
    """

    __slots__ = ("anchor", "parse", "shape")

    def __init__(self, shape: str, parse: Callable[[str], T], anchor: Callable[[T, str], T] | None = None) -> None:
        self.shape = shape
        self.parse = parse
        self.anchor = anchor


def parts(text: str) -> list[str]:
    """The entries of a list: separated by commas or line ends, empty ones ignored."""
    return [part.strip() for part in text.replace("\n", ",").split(",") if part.strip()]


def _each(one: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    return lambda text: tuple(dict.fromkeys(one(part) for part in parts(text)))


# --- numbers ---------------------------------------------------------------------------------------------------------


def _bounds(least: str, most: str) -> str:
    return f" from {least} to {most}" if most else f", at least {least}"


def _within(value: float, text: str, least: tuple[float, str], most: tuple[float, str]) -> None:
    if value < least[0]:
        raise ValueError(f"{text} is too little: at least {least[1]}")
    if most[1] and value > most[0]:
        raise ValueError(f"{text} is too much: at most {most[1]}")


def _digits(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _split_unit(text: str) -> tuple[str, str]:
    """`25 M` -> ("25", "M")."""
    unit = text.lstrip("0123456789.")
    return text[: len(text) - len(unit)], unit.strip()


def whole(least: int = 1, most: int | None = None) -> Kind[int]:
    """A whole number without unit."""

    def parse(text: str) -> int:
        if not _digits(text):
            raise ValueError(f"{text!r} is no whole number: write digits alone, such as {max(least, 1)}")
        _within(int(text), text, (least, str(least)), (most or 0, "" if most is None else str(most)))
        return int(text)

    return Kind("whole number" + _bounds(str(least), "" if most is None else str(most)), parse)


def share() -> Kind[float]:
    """A part of one: 0 to 1."""

    def parse(text: str) -> float:
        if not _digits(text.replace(".", "", 1)):
            raise ValueError(f"{text!r} is no number from 0 to 1: write it as 0.1")
        _within(float(text), text, (0, "0"), (1, "1"))
        return float(text)

    return Kind("number from 0 to 1", parse)


def _seconds(text: str) -> float:
    number, unit = _split_unit(text)
    if not _digits(number.replace(".", "", 1)) or unit not in {"", *SECONDS}:
        raise ValueError(f"{text!r} is no duration: write a number and one of {', '.join(SECONDS)}, such as 5m")
    return float(number) * SECONDS[unit or "s"]


def duration(least: str = "0", most: str = "") -> Kind[float]:
    """Seconds, from `5m`, `20ms`, `300`."""

    def parse(text: str) -> float:
        seconds = _seconds(text)
        _within(seconds, text, (_seconds(least), least), (_seconds(most) if most else 0, most))
        return seconds

    return Kind("duration" + _bounds(least, most), parse)


def _bytes(text: str) -> int:
    number, unit = _split_unit(text)
    if not _digits(number) or unit.upper() not in BYTES:
        raise ValueError(f"{text!r} is no size: write whole bytes or a number and one of K, M, G, T, such as 25M")
    return int(number) * BYTES[unit.upper()]


def size(least: str = "0", most: str = "") -> Kind[int]:
    """Bytes, from `25M`, `64K`, `1000`; K is 1024."""

    def parse(text: str) -> int:
        count = _bytes(text)
        _within(count, text, (_bytes(least), least), (_bytes(most) if most else 0, most))
        return count

    return Kind("size" + _bounds(least, most), parse)


# --- words -----------------------------------------------------------------------------------------------------------


def choice(*words: str) -> Kind[str]:
    """One of some words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is not one of {', '.join(words)}{nearest(text.lower(), words)}")
        return text

    return Kind("one of " + ", ".join(words), parse)


def nearest(word: str, known: tuple[str, ...]) -> str:
    """`; did you mean 'journal'?`, or nothing when no known word is like it."""
    from difflib import get_close_matches  # costs a millisecond, and only mistakes need it

    found = get_close_matches(word, known, 1)
    return f"; did you mean {found[0]!r}?" if found else ""


def yes_or_no() -> Kind[bool]:
    """A switch."""
    words = choice("yes", "no")
    return Kind("yes or no", lambda text: words.parse(text) == "yes")


def _word(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{text!r} has characters that cannot be seen: one word or sentence on one line is needed")
    return text


def word() -> Kind[str]:
    """Text on one line, or nothing."""
    return Kind("text on one line, or nothing", _word)


# --- paths -----------------------------------------------------------------------------------------------------------


def _check_path(text: str) -> str:
    if not text:
        raise ValueError("a path is needed")
    if text.startswith("~"):
        raise ValueError(f"{text!r}: there are no home folders here; write the whole path")
    if "\0" in text or "\n" in text:
        raise ValueError(f"{text!r} is no path: one path on one line")
    return text


def _from(path: str, folder: str) -> str:
    return os.path.join(folder, path) if path else ""


def path() -> Kind[Path]:
    """A folder."""
    return Kind(
        "path; a relative one counts from the folder of the configuration",
        lambda text: Path(_check_path(text)),
        lambda value, folder: Path(folder, value),
    )


def file() -> Kind[str]:
    """A file, or none."""
    return Kind(
        "path, or nothing; a relative one counts from the folder of the configuration",
        lambda text: _check_path(text) if text else "",
        _from,
    )


def log_target() -> Kind[str]:
    """Where lines go: a word, or the path of a file."""

    def parse(text: str) -> str:
        if text in LOG_TARGETS:
            return text
        if not text.startswith("/"):
            hint = nearest(text.lower(), LOG_TARGETS)
            raise ValueError(f"{text!r} is neither stderr nor syslog nor the path of a file, as /var/log/kmq.log{hint}")
        if text.endswith("/"):
            raise ValueError(f"{text!r} is a folder: the path of a file is needed, as {text}kmq.log")
        return _check_path(text)

    return Kind("stderr, syslog, or the absolute path of a file", parse)


def log_folder() -> Kind[str]:
    """Where files of a log go: a word, or the path of a folder."""

    def parse(text: str) -> str:
        if text in LOG_FOLDERS:
            return text
        if not text.startswith("/"):
            hint = nearest(text.lower(), LOG_FOLDERS)
            raise ValueError(f"{text!r} is neither spool nor off nor the path of a folder, as /var/log/kmq{hint}")
        return _check_path(text).rstrip("/") or "/"

    return Kind("spool, off, or the absolute path of a folder", parse)


#: What `log_folder` knows beside paths.
LOG_FOLDERS = ("spool", "off")

#: What `log_target` knows beside files.
LOG_TARGETS = ("stderr", "syslog")


def files() -> Kind[tuple[str, ...]]:
    """Some files, or none."""
    return Kind(
        "list of paths; a relative one counts from the folder of the configuration",
        _each(_check_path),
        lambda value, folder: tuple(os.path.join(folder, one) for one in value),
    )


def _maildir(text: str) -> str:
    if not text:
        return ""
    _check_path(text)
    rest = text.replace("{user}", "").replace("{domain}", "")
    if "{" in rest or "}" in rest:
        raise ValueError(f"{text!r} has a placeholder that is neither {{user}} nor {{domain}}")
    if "{user}" not in text:
        raise ValueError(f"{text!r} is one folder for all: write {{user}} where the user's name goes")
    if ".." in text.split("/"):
        raise ValueError(f"{text!r} leaves its root: a path without '..' is needed")
    if not text[: text.index("{")].strip("/.") and text.startswith("/"):
        raise ValueError(f"{text!r} begins with a name that a sender chooses: put a folder ahead, /var/mail/{{user}}")
    return text


def maildir() -> Kind[str]:
    """The template of a Maildir's path."""
    return Kind("path with {user} in it, and {domain} if domains have mailboxes apart", _maildir, _from)


# --- names and addresses of the net ----------------------------------------------------------------------------------


def domain_name(text: str) -> str:
    """One domain as lower-case A-labels."""
    try:
        return canonical(text)
    except ValueError as wrong:
        raise ValueError(f"{wrong}; a name such as mx.example.org is needed") from None


def domain() -> Kind[str]:
    """One domain or host name, as lower-case A-labels."""
    return Kind("host name", domain_name)


def domains() -> Kind[tuple[str, ...]]:
    return Kind("list of domains", _each(domain_name))


def _space(text: str) -> str:
    if text == "*":
        return text
    star, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    if "*" in name:
        raise ValueError(f"{text!r}: a star stands alone or first: *, *.example.org, example.org")
    return star + domain_name(name)


def spaces() -> Kind[tuple[str, ...]]:
    """Address spaces: `*`, `example.org`, `*.example.org`."""
    return Kind("list of *, example.org (that domain), *.example.org (all below it, not itself)", _each(_space))


def _network(text: str) -> Network:
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f"{text!r} is no network: write 192.0.2.0/24, 2001:db8::/32 or one address") from None
    address = text.partition("/")[0]
    if ip_address(address) != network.network_address:
        raise ValueError(f"{text!r} has bits beyond its mask: write {network}, or {address} for that host alone")
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
        raise ValueError(f"{text!r} is an IPv4 network in IPv6 dress: write it as IPv4")
    return network


def networks() -> Kind[tuple[Network, ...]]:
    return Kind("list of networks", _each(_network))


def _address(host: str) -> str | None:
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def _port(text: str, endpoint: str) -> int:
    if not _digits(text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{endpoint!r}: port {text!r} is not a number from 1 to 65535")
    return int(text)


def _host_and_port(text: str) -> tuple[str, str]:
    """`[::1]:25` -> ("::1", "25"); no port: ""."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or _address(host) is None or ":" not in host or rest[:1] not in ("", ":") or rest == ":":
            raise ValueError(f"{text!r}: in brackets stands an IPv6 address, then the port: [2001:db8::1]:25")
        return host, rest[1:]
    host, colon, port = text.partition(":")
    if ":" in port:
        raise ValueError(f"{text!r}: IPv6 addresses stand in brackets: [2001:db8::1]:25")
    if colon and not port:
        raise ValueError(f"{text!r}: the port is missing after the colon")
    return host, port


def _listener(text: str) -> Endpoint:
    host, port = _host_and_port(text)
    address = _address(host)
    if address is None:
        raise ValueError(f"{text!r}: an address of this machine and a port are needed: 0.0.0.0:25, [::]:25")
    if not port:
        raise ValueError(f"{text!r}: the port is missing: {text}:{SMTP_PORT}")
    return address, _port(port, text)


def listeners() -> Kind[tuple[Endpoint, ...]]:
    # Not `_each`: an address named twice is a mistake that `checks` tells.
    return Kind("list of address:port, IPv6 in brackets", lambda text: tuple(map(_listener, parts(text))))


def _next_host(text: str) -> Endpoint:
    host, port = _host_and_port(text)
    address = _address(host)
    if address is None and host.replace(".", "").isdecimal():
        raise ValueError(f"{text!r} is no IPv4 address")
    return address or domain_name(host), _port(port, text) if port else SMTP_PORT


def hosts() -> Kind[tuple[Endpoint, ...]]:
    return Kind(f"list of host:port, IPv6 in brackets; the port is {SMTP_PORT} when left out", _each(_next_host))


def _dns_server(text: str) -> Endpoint:
    host, port = _host_and_port(f"[{text}]" if _address(text) and ":" in text else text)
    address = _address(host)
    if address is None:
        raise ValueError(f"{text!r}: the address of a resolver is needed, not a name: 192.0.2.53, [2001:db8::53]:53")
    return address, _port(port, text) if port else DNS_PORT


def dns_servers() -> Kind[tuple[Endpoint, ...]]:
    return Kind(f"list of address:port, IPv6 in brackets; the port is {DNS_PORT} when left out", _each(_dns_server))


def write_endpoint(host: str, port: int) -> str:
    """The text of an endpoint: `smtp.example.org:25`, `[::1]:25`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# --- people ----------------------------------------------------------------------------------------------------------


def user_name(text: str) -> str:
    """The name of a user with a mailbox, in lower case."""
    if user_of(text) != text.lower():
        raise ValueError(f"{text!r} is no user's name: letters, digits, '.', '_' and '-', not first a dot")
    return text.lower()


def _mail_address(text: str) -> str:
    local, at, name = text.rpartition("@")
    if not at:
        return user_name(text)
    if not local or not local.isprintable() or " " in local:
        raise ValueError(f"{text!r} is no mail address: write somebody@example.org")
    return f"{local}@{domain_name(name)}"


def address() -> Kind[str]:
    """A mail address; a name alone is a user of the first local domain."""
    return Kind("mail address, or the name of a user", _mail_address)


def _owner(text: str) -> str:
    if text == "*" or _digits(text):
        return text
    if not text.isascii() or not text.replace("-", "a").replace("_", "a").replace(".", "a").rstrip("$").isalnum():
        raise ValueError(f"{text!r} is no user of this machine: write a name as in /etc/passwd, or a number")
    return text


def owners() -> Kind[tuple[str, ...]]:
    """Users of this machine, whose files they are."""
    return Kind("*, or a list of users of this machine, by name or number", _each(_owner))


def _group(text: str) -> str:
    if not text or _digits(text):
        return text
    if not text.isascii() or not text.replace("-", "a").replace("_", "a").replace(".", "a").isalnum():
        raise ValueError(f"{text!r} is no group of this machine: write one name as in /etc/group, or a number")
    return text


def group() -> Kind[str]:
    """A group of this machine; "" is none."""
    return Kind("a group of this machine, by name or number", _group)
