"""The options of connectors that deliver as the user whom mail is for, over kmq-deliver(8).

Promise:  as in `sections`; `lacking` and `mistakes` are pure.
Callers:  `local_connector`, whose options these are among.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kmq.config import kinds
from kmq.config.options import option, section

if TYPE_CHECKING:
    from kmq.config.connector import ConnectorSection

#: What is done as the user -> the type of the connector.
TYPES = {"maildir": "mailbox", "mbox": "mailbox", "command": "pipe"}

_NAME = re.compile(r"[A-Za-z0-9_.-]+").fullmatch


@section
class AsUserOptions:
    """Delivery by kmq-deliver."""

    as_user: str = option(
        kinds.choice("no", *TYPES),
        default="no",
        doc="Who delivers: `no`: kmqd's own user. Else kmq-deliver(8), a program of its own that becomes the user whom"
        " the mail is for: `maildir`: into the Maildir of his home; `mbox`: into the file of his name in /var/mail;"
        " `command` (type pipe): to the command that /etc/kmq/deliver.conf has under the name `deliver_command`. Then"
        " `maildir`, `mbox` and `command` stay out of this file: kmqd chooses no path and no program. Needs `users`, as"
        " `users = passwd`.",
    )
    deliver_command: str = option(
        kinds.word(), default="", doc="`as_user = command`: the name of the command in /etc/kmq/deliver.conf. Needed."
    )
    deliver_socket: str = option(
        kinds.file(), default="/run/kmq-deliver.sock", doc="`as_user`: the socket of kmq-deliver(8)."
    )


def lacking(one: "ConnectorSection") -> Iterator[tuple[str, str]]:
    """(option, what to write)."""
    if one.as_user == "command" and not one.deliver_command:
        text = "deliver_command is missing: write deliver_command = procmail, as /etc/kmq/deliver.conf names it"
        yield "deliver_command", text


def mistakes(one: "ConnectorSection") -> Iterator[tuple[str, str]]:
    """(option, what is wrong)."""
    kind = one.as_user
    if one.deliver_command and kind != "command":
        yield "deliver_command", f"deliver_command is for as_user = command; this one is as_user = {kind}"
    if kind == "no":
        return
    if one.type not in ("", TYPES[kind]):
        yield "as_user", f"as_user = {kind} is for type = {TYPES[kind]}; this one is type = {one.type}"
    for name in ("maildir", "mbox", "command", "directory"):
        if getattr(one, name):
            yield name, f"{name} is not for as_user = {kind}: kmq-deliver(8) knows it, kmqd does not choose it"
    if kind == "mbox" and one.quota.messages:
        yield "quota", "messages of an mbox are not counted: write a size alone"
    if kind == "command" and one.recipients == "all":
        yield "recipients", "recipients = all has no one user: write recipients = one"
    if one.deliver_command and not _NAME(one.deliver_command):
        text = f"{one.deliver_command!r} is no name: letters, digits, '.', '_' and '-', as deliver.conf has it"
        yield "deliver_command", text
    if one.type == "mailbox" and one.users == "existing":
        yield "users", "users = existing looks for folders, and kmqd sees no user's: write users = passwd"
    if not one.deliver_socket:
        yield "deliver_socket", "deliver_socket is missing: write deliver_socket = /run/kmq-deliver.sock"
