"""Routes of a configuration that stands in a folder, for tests of aliases and users."""

from pathlib import Path

from kmq.config import read
from kmq.model.envelope import Recipient
from kmq.model.reply import Reply
from kmq.routing.expanding import Expansion
from kmq.routing.table import Route, Routes

CONFIGURATION = """
[kmq]
hostname = mx.a.example
local_domains = a.example, b.example
alias_files = {aliases}
{kmq}

[boxes : connector]
type = mailbox
maildir = mail/{{domain}}/{{user}}
users = {users}

[isp : connector]
type = smarthost
hosts = hub.example
address_spaces = *
{more}
"""


def routes(
    folder: Path, aliases: str | None = "", *, users: str = "ada, bob, carl", kmq: str = "", more: str = ""
) -> Routes:
    """aliases: text of the one alias file, None for a file that is missing, "" for none at all."""
    if aliases:
        (folder / "aliases").write_text(aliases)
    named = "" if aliases == "" else "aliases"
    text = CONFIGURATION.format(aliases=named, users=users, kmq=kmq, more=more)
    return Routes(read(text, "kmq.conf", str(folder), "mx"))


def fate(made: Routes, address: str, sender: str = "s@far.example") -> list[str] | str:
    """What becomes of an address: what its alias stands for, the text of its hop, or of the reply."""
    from kmq.model.envelope import Source

    found = made.ways(sender, Source()).decide(Recipient(address))
    match found:
        case Expansion():
            return [f"{one.address} by {one.owner}" if one.owner else one.address for one in found.finals]
        case Route():
            return f"{found.hop.connector} {found.hop.domain}"
        case Reply():
            return str(found)
