"""Users by file: the machine's (passwd(5)), or one name or address on a line.

Promise:  pure readings of text; what is no user is told with its line.
Callers:  routing.mailboxes.
"""

from kmq.model.address import NotAnAddress, parse
from kmq.model.domain import canonical
from kmq.model.mailbox import user_of
from kmq.routing.watched import Content

PASSWD = "/etc/passwd"

#: The first uid of people (login.defs(5), UID_MIN); root is one, too.
PEOPLE_FROM = 1000
#: What stands for a shell where nobody may log in.
_NO_SHELLS = ("nologin", "false", "sync", "shutdown", "halt")

Users = frozenset[str]


def machine_users(text: str) -> Content[Users]:
    """Who may log in, from uid 1000 on, and root. An empty shell is /bin/sh (passwd(5)). Whoever's name is no mailbox's
    has none; so have lines that are none, as of NIS."""
    users = set()
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) != 7 or not fields[2].isdecimal():
            continue
        name, uid, shell = fields[0], int(fields[2]), fields[6].rpartition("/")[2]
        if (uid == 0 or (uid >= PEOPLE_FROM and shell not in _NO_SHELLS)) and user_of(name) == name.lower():
            users.add(name.lower())
    return Content(frozenset(users), "" if users else "it names nobody")


def listed_users(text: str) -> Content[Users]:
    """Names (of every domain of the connector) and addresses, one on a line; `#` begins a comment's line."""
    users = set()
    broken = ""
    for number, line in enumerate(text.split("\n"), 1):
        bare = line.strip()
        if not bare or bare[0] == "#":
            continue
        user = _user(bare)
        if user:
            users.add(user)
        else:
            broken = broken or f"line {number}: {bare[:60]!r} is no user: write a name, or name@example.org"
    return Content(frozenset(users), broken)


def _user(text: str) -> str:
    """In lower case, the domain canonical; "" for what is no user's name or address."""
    if "@" not in text:
        return text.lower() if user_of(text) == text.lower() else ""
    try:
        local, domain = parse(text)
        return f"{local.lower()}@{canonical(domain)}" if user_of(local) == local.lower() else ""
    except (NotAnAddress, ValueError):
        return ""
