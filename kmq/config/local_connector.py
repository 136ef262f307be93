"""The options of connectors that bring mail to users of this machine, and what must not be said together.

Promise:  as in `sections`, where they are exported with the others; `lacking` and `mistakes` are pure.
Callers:  `connector`, whose sections have these options; `checks` tells the mistakes; everybody who asks whether a
          connector serves local domains (`LOCAL`).
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from kmq.config import as_user, kinds
from kmq.config.as_user import AsUserOptions
from kmq.config.kinds import Kind, parts, size, user_name, whole
from kmq.config.options import option, section

if TYPE_CHECKING:
    from kmq.config.connector import ConnectorSection

#: Types of connectors that serve local domains.
LOCAL = ("mailbox", "lmtp", "pipe")

#: What stands in braces in the words of a pipe's command.
PLACES = ("user", "domain", "extension", "sender", "recipient", "id")

#: Port that LMTP must not be spoken on (RFC 2033 5).
_SMTP_PORT = 25


class Quota(NamedTuple):
    """What a mailbox may hold; 0: no limit."""

    bytes: int
    messages: int


_bytes, _messages = size("1K").parse, whole(1).parse


def _quota(text: str) -> Quota:
    room = messages = 0
    for part in parts(text):
        number, _, word = part.partition(" ")
        counts = word.strip() in ("message", "messages")
        if (messages if counts else room) or (word and not counts):
            raise ValueError(f"{text!r} is no quota: write a size, a number of messages, or both: 1G, 10000 messages")
        if counts:
            messages = _messages(number)
        else:
            room = _bytes(number)
    return Quota(room, messages)


def quota() -> Kind[Quota]:
    """Bytes and messages of a mailbox."""
    return Kind("size, NUMBER messages, or both (1G, 10000 messages), or nothing", _quota)


def _somebody(text: str) -> str:
    return user_name(text) if text else ""


def somebody() -> Kind[str]:
    """A user, or nobody."""
    return Kind("name of a user, or nothing", _somebody)


@section
class LocalOptions(AsUserOptions):
    """What belongs to connectors that serve local domains."""

    mbox: str = option(
        kinds.maildir(),
        default="",
        doc="Mailbox: in place of `maildir`, the file of a user in the form mboxrd, as /var/mail/{user}. It is locked"
        " by fcntl and by a file that ends in `.lock` beside it, as Debian has it.",
    )
    lock_timeout: float = option(
        kinds.duration("1s", "10m"),
        default="30s",
        doc="`mbox`: longest wait for a file that another program has locked; then the mail waits (4.2.0).",
    )
    create_folders: bool = option(
        kinds.yes_or_no(),
        default="no",
        doc="`maildir`: whether mail to `alice+lists` makes the folder `.lists` of alice's Maildir when it is not"
        " there, as long as she has less than 100. Mail for a folder that is not there goes where alice's goes.",
    )
    sizes_in_names: bool = option(
        kinds.yes_or_no(),
        default="no",
        doc="`maildir`: whether names of files tell their sizes (`,S=` and `,W=`), which spares Dovecot, and who counts"
        " for a quota, a look at each file.",
    )
    quota: Quota = option(
        quota(),
        default="",
        doc="Mailbox: what one may hold; of an `mbox` only the size counts. What is in a Maildir is kept account of in"
        " its file `maildirsize` (Maildir++), folders included, `.Trash` not.",
    )
    over_quota: str = option(
        kinds.choice("wait", "return"),
        default="wait",
        doc="What becomes of mail that does not fit: `wait`: it is tried again (4.2.2), and given up as any other;"
        " `return`: its sender has it back at once (5.2.2). What alone is larger than the quota always goes back.",
    )
    catch_all: str = option(
        somebody(),
        default="",
        doc="Not for other servers' mail: the user who gets what is for nobody of its local domains; unknown names are"
        " taken in then. `@domain` in an alias file goes before it.",
    )
    socket: str = option(
        kinds.file(),
        default="",
        doc="`lmtp`: the Unix socket of the server, as /run/dovecot/lmtp, in place of `hosts`. kmqd's user has to be"
        " able to write to it.",
    )
    recipients: str = option(
        kinds.choice("one", "all"),
        default="one",
        doc="`pipe`: whether the command is run for each recipient, or once for `all` of a message in a domain: then a"
        " word that is `{recipient}` alone stands for as many words, and what it answers holds for all.",
    )
    commands: int = option(
        kinds.whole(1, 1000),
        default="10",
        doc="`pipe`: how many of the command may run at once, over all workers together, each of which has one at"
        " least; for one user each worker runs one at a time.",
    )
    time_limit: float = option(
        kinds.duration("100ms", "1h"),
        default="5m",
        doc="`pipe`: how long the command may take; then it is ended, with all that it began, and the mail waits.",
    )
    directory: str = option(
        kinds.file(), default="", doc="`pipe`: the folder in which the command is run; left out, it is /."
    )
    from_line: bool = option(
        kinds.yes_or_no(), default="no", doc="`pipe`: whether a line `From sender date` goes ahead of the message."
    )


#: Option -> the types that it means something for.
_FOR = {
    "mbox": ("mailbox",),
    "lock_timeout": ("mailbox",),
    "create_folders": ("mailbox",),
    "sizes_in_names": ("mailbox",),
    "quota": ("mailbox",),
    "over_quota": ("mailbox",),
    "catch_all": LOCAL,
    "socket": ("lmtp",),
    "recipients": ("pipe",),
    "commands": ("pipe",),
    "time_limit": ("pipe",),
    "directory": ("pipe",),
    "from_line": ("pipe",),
}

#: Options of Maildirs alone.
_MAILDIR = ("create_folders", "sizes_in_names")

_USERS = "users is missing: write users = passwd, file:/etc/kmq/users, * for everybody, or a list of names"


def lacking(one: "ConnectorSection") -> Iterator[tuple[str, str]]:
    """(option, what to write) of what such a connector needs to be of any use, and has not."""
    match one.type:
        case "mailbox" if not one.maildir and not one.mbox and one.as_user == "no":
            yield "maildir", "maildir is missing: write maildir = /var/mail/{user}, or mbox = /var/mail/{user}"
        case "lmtp" if not one.hosts and not one.socket:
            yield "socket", "socket is missing: write socket = /run/dovecot/lmtp, or hosts = lmtp.example.org:24"
        case "pipe" if not one.command and one.as_user == "no":
            yield "command", "command is missing: write command = /usr/bin/procmail -m /etc/kmq/procmailrc {user}"
    yield from as_user.lacking(one)
    if one.type in ("lmtp", "pipe") and one.users == "existing":
        yield "users", _USERS


def mistakes(one: "ConnectorSection") -> Iterator[tuple[str, str]]:
    """(option, what is wrong)."""
    declared = type(one).__dataclass_fields__
    for name, types in _FOR.items():
        if one.type not in ("", *types) and getattr(one, name) != declared[name].default:
            yield name, f"{name} is for type = {' or '.join(types)}; this one is type = {one.type}"
    yield from as_user.mistakes(one)
    if one.maildir and one.mbox:
        yield "mbox", "mbox stands beside maildir: a mailbox is one of them"
    for name in _MAILDIR if one.mbox else ():
        if getattr(one, name):
            yield name, f"{name} is for Maildirs; this connector has mbox"
    if one.mbox and one.quota.messages:
        yield "quota", "messages of an mbox are not counted: write a size alone"
    if one.catch_all and one.users == "*":
        yield "catch_all", "catch_all is for names that are nobody's; with users = * everybody is somebody"
    if one.type == "lmtp":
        yield from _lmtp(one)
    if one.type == "pipe":
        yield from _pipe(one)


def _lmtp(one: "ConnectorSection") -> Iterator[tuple[str, str]]:
    if one.hosts and one.socket:
        yield "socket", "socket stands beside hosts: the server is reached by one of them"
    if any(port == _SMTP_PORT for _, port in one.hosts):
        yield "hosts", "LMTP is not spoken on port 25 (RFC 2033 5): write the port, as lmtp.example.org:24"
    if one.socket and one.tls in ("must", "implicit"):
        yield "tls", f"tls = {one.tls} protects a line; a socket of this machine has none: leave it out"


def _pipe(one: "ConnectorSection") -> Iterator[tuple[str, str]]:
    named = {name for word in one.command for name in re.findall(r"\{(\w+)\}", word)}
    known = ", ".join(f"{{{name}}}" for name in PLACES)
    if "{" in "".join(one.command[:1]):
        yield "command", "the program itself may not depend on the mail: write its path without braces"
    for name in sorted(named - {*PLACES}):
        yield "command", f"{{{name}}} means nothing: there are {known}"
    each = sorted(named & {"user", "extension"})
    if one.recipients == "all" and each:
        yield "command", f"{{{each[0]}}} is another for each recipient: write recipients = one, or leave it out"
    if one.recipients == "all" and any("{recipient}" in word and word != "{recipient}" for word in one.command):
        yield "command", "with recipients = all {recipient} has to be a word of its own, which stands for as many words"
