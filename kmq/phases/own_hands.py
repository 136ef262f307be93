"""One delivery as the user himself: into his Maildir or mbox, or to a command. This runs in a child of kmq-deliver that
is the user already, and opens nothing as anybody else.

Promise:  what a user may not do is not done. What is opened has a fixed place: ~/Maildir, the mbox of his name, or a
          command that root named in the file of commands; kmqd, whatever it asks for, chooses no path and no program.
On crash: as phases.maildir and phases.mbox have it; a command is run once more.
Callers:  cli.deliver, which loads this only when nothing of root's is left; phases.as_user knows the words.
"""

import json
import os
import re
import shlex
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from time import monotonic, sleep
from typing import NamedTuple

from kmq.model.reply import Reply
from kmq.phases import maildir, mbox
from kmq.phases.maildir import Copy
from kmq.phases.maildir_quota import Limits
from kmq.phases.mbox import Letter
from kmq.phases.program import Running
from kmq.phases.storing import Refused, subfolder, trouble
from kmq.phases.sysexits import as_reply

MAILDIR = "Maildir"  #: below the user's home
PATH = "/usr/local/bin:/usr/bin:/bin"

_PIECE = 128 << 10
_PAUSE = 0.2  #: seconds before a file that somebody has locked is tried again
_PLACE = re.compile(r"\{(user|domain|extension|sender|recipient|id)\}")
_STRANGE = re.compile(r"[^1234567890!@%\-_=+:,./ A-Za-z\x80-\U0010ffff]")


class Place(NamedTuple):
    """user, home: as the machine knows them; spool: the folder of mboxes; commands: the file of commands."""

    user: str
    home: str
    spool: str
    commands: str


@dataclass(frozen=True)
class Words:
    """What kmqd says of a delivery.

    name, created, host, sender: of the copy, as phases.maildir and phases.mbox have them. extension, domain, recipient,
    id: what a command may be told. seconds: how long it may take, or wait for a lock. command: the name of one.
    limits: of a mailbox: bytes, messages, and whether what does not fit goes back at once.
    """

    name: str
    created: int
    host: str = ""
    sender: str = ""
    extension: str = ""
    domain: str = ""
    recipient: str = ""
    id: str = ""
    seconds: float = 300.0
    command: str = ""
    limits: tuple[int, int, bool] = (0, 0, False)
    create_folder: bool = False
    sized: bool = False

    def as_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def read(text: bytes) -> Words:
    """ValueError or TypeError when they are none."""
    words = Words(**json.loads(text))
    size, messages, final = words.limits
    if "/" in words.name or words.name.startswith("."):
        raise ValueError(f"{words.name!r} is no file's name")
    return Words(**{**asdict(words), "limits": (int(size), int(messages), bool(final))})


@dataclass(frozen=True)
class _Text:
    """The bytes of the copy: a file that is open for reading."""

    fd: int

    def pieces(self) -> Iterator[bytes]:
        at = 0
        while piece := os.pread(self.fd, _PIECE, at):
            yield piece
            at += len(piece)


def deliver(place: Place, kind: str, text: bytes, body: int) -> str:
    """The reply in one line. kind: `maildir`, `mbox`, `command`; text: Words as bytes; body: the open file."""
    try:
        words = read(text)
        return str({"maildir": _maildir, "mbox": _mbox, "command": _command}[kind](place, words, body))
    except Refused as refusal:
        return str(refusal.reply)
    except OSError as error:
        return str(trouble(error, str(error.filename or place.user)))
    except (ValueError, TypeError) as error:
        return str(Reply(451, "4.3.5", f"kmq-deliver does not understand this: {error}"))


def _maildir(place: Place, words: Words, body: int) -> Reply:
    home = os.open(place.home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        base = subfolder(home, MAILDIR, True)
    finally:
        os.close(home)
    copy = Copy(
        root=place.home,
        below=(place.user, MAILDIR),
        create=True,
        name=words.name,
        text=_Text(body),
        created=words.created,
        folder=words.extension,
        create_folder=words.create_folder,
        sized=words.sized,
        limits=Limits(*words.limits) if any(words.limits[:2]) else None,
    )
    return maildir.put(base, copy)


def _mbox(place: Place, words: Words, body: int) -> Reply:
    room, _, final = words.limits
    letter = Letter(words.name, words.host, words.sender, _Text(body), words.created, room, final)
    folder = os.open(place.spool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    until = monotonic() + words.seconds
    try:
        while locked := mbox.append(folder, place.user, True, [letter]):
            if monotonic() + _PAUSE > until:
                return Reply(451, "4.2.0", f"the mailbox is locked: {locked} ({place.user})")
            sleep(_PAUSE)
    finally:
        os.close(folder)
    return letter.reply or Reply(451, "4.3.0", letter.damaged)


# --- a command --------------------------------------------------------------------------------------------------------


def _command(place: Place, words: Words, body: int) -> Reply:
    template = _named(place.commands, words.command)
    values = {
        "user": place.user,
        "extension": words.extension,
        "domain": words.domain,
        "sender": words.sender,
        "recipient": words.recipient,
        "id": words.id,
    }
    argv = [_PLACE.sub(lambda found: values[found[1]], word) for word in template]
    for word, filled in zip(template, argv, strict=True):
        if not filled.isprintable():
            return Reply(553, "5.1.3", "the address has characters that no command may be given")
        if word[:1] == "{" and filled[:1] == "-":
            text = "the address begins with a hyphen, which the command would take for an option"
            return Reply(553, "5.1.3", text)
    fixed = {"PATH": PATH, "LANG": "C.UTF-8", "SHELL": "/bin/sh", "HOME": place.home, "LOGNAME": place.user}
    environment = fixed | {name.upper(): _STRANGE.sub("_", value) for name, value in values.items()}
    os.lseek(body, 0, os.SEEK_SET)
    try:
        running = Running(argv, environment, place.home, body)
    except OSError as error:
        return Reply(451, "4.3.5", f"{argv[0]} cannot be run: {error.strerror}")
    return as_reply(running.wait(words.seconds), os.path.basename(argv[0]))


def _named(path: str, name: str) -> list[str]:
    """The words of a command that root named: lines `NAME = PROGRAM WORDS`, `#` begins a comment."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, encoding="utf-8") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
            raise ValueError(f"{path} is not root's alone to write")
        for line in file:
            known, equals, command = line.partition("#")[0].partition("=")
            if equals and known.strip() == name:
                words = shlex.split(command)
                if not words or not words[0].startswith("/"):
                    raise ValueError(f"{path}: the command {name} has no whole path")
                return words
    raise ValueError(f"{path} names no command {name!r}")
