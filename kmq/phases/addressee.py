"""Who a local recipient is: the user, the rest of the address, and the lines that final delivery puts on top.

Promise:  pure. What becomes a path, a word of a command or a header is looked at here again, whatever an envelope says.
Callers:  phases.mailbox, mboxes and pipe; a trial of a poisoned message.
"""

from typing import NamedTuple

from kmq.config.sections import ConnectorSection
from kmq.model.address import NotAnAddress, on_wire, parse, split
from kmq.model.envelope import Head, Recipient
from kmq.model.mailbox import DELIMITER, POSTMASTER, folder, user_of
from kmq.model.reply import Reply
from kmq.phases.copy_text import CopyText
from kmq.phases.work import Work

NO_USER = Reply(550, "5.1.1", "no mailbox of that name here")


class Addressee(NamedTuple):
    """user: lower case, one plain path component; extension: what stands behind the `+`, as it was written; domain: of
    the queue. create: there is a mailbox for the user, be it that it has to be made."""

    user: str
    extension: str
    domain: str
    create: bool


def addressee(work: Work, index: int, section: ConnectorSection) -> Addressee | Reply:
    """The user of a recipient, or why there is none."""
    local_part = split(work.head.recipients[index].address).local
    user, domain = user_of(local_part), work.hop.domain
    if user is None or not _allowed(user, section) or not _component(user) or not _component(domain):
        return NO_USER
    extension = local_part.partition(DELIMITER)[2]
    return Addressee(user, extension, domain, section.users != "existing" or user == POSTMASTER)


def _allowed(user: str, section: ConnectorSection) -> bool:
    return isinstance(section.users, str) or user in section.users or user == POSTMASTER


def place(template: str, user: str, domain: str) -> tuple[str, tuple[str, ...]] | None:
    """The folder ahead of the first {user} or {domain} of a template, and the path from there to the user's mailbox;
    None when there is no such path."""
    root = template[: template.index("{")].rpartition("/")[0] if "{" in template else ""
    below = tuple(folder(template[len(root) :].strip("/"), user, domain).split("/"))
    return (root, below) if root and all(map(_component, below)) else None


def _component(part: str) -> bool:
    """A name that stays where it is; checked here again, since it becomes a path."""
    return part not in ("", ".", "..") and part.isprintable() and "/" not in part and len(part.encode()) <= 255


def file_host(hostname: str) -> str:
    """A host's name as part of a file's name, as Maildirs have it."""
    return hostname.replace("/", "\\057").replace(":", "\\072")


# --- what stands on top -----------------------------------------------------------------------------------------------


def copy_text(work: Work, *rcpt: int) -> CopyText:
    """The bytes of the copy for these recipients."""
    head = work.head
    loop = frozenset(_address(head.recipients[index].address).lower() for index in rcpt)
    top = header(head, *(head.recipients[index] for index in rcpt))
    return CopyText(top, work.body, head.sha256, work.edits, loop)


def header(head: Head, *recipients: Recipient) -> bytes:
    """The lines that final delivery puts on top (RFC 5321 4.4): who sent it, to whom it was delivered and addressed.

    The latter is the address ahead of an alias, else the one that the first server knew (ORCPT).
    """
    lines = [b"Return-Path: <%b>\n" % _address(head.sender)]
    for one in recipients:
        to = _address(one.address)
        first = _address(one.original) if one.original else _original(one.orcpt) or to
        lines.append(b"Delivered-To: %b\nX-Original-To: %b\n" % (to, first))
    return b"".join(lines)


def _address(text: str) -> bytes:
    """An address made anew; one that is none (an envelope that somebody edited) is not let into a header."""
    try:
        return on_wire(text)[1:-1]
    except NotAnAddress:
        return b"unknown"


def _original(orcpt: str) -> bytes:
    """The address of an ORCPT parameter (RFC 3461 4.2: `rfc822;` and xtext), b"" when there is none of use."""
    kind, _, xtext = orcpt.partition(";")
    if kind.lower() != "rfc822":
        return b""
    first, *rest = xtext.split("+")
    try:
        text = first + "".join(chr(int(part[:2], 16)) + part[2:] for part in rest)
        return str(parse(text)).encode()
    except (ValueError, UnicodeError):
        return b""
