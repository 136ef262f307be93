"""Kinds of values, and mistakes, of the ways out that are no servers: an agent, files, nowhere, no.

Promise:  as in `kinds` and in `checks`. Whether a program or a folder is there is looked at by `kmq check`, and when
          mail goes that way.
Callers:  `connector` declares options with these kinds; `checks` tells the mistakes; phases and admin ask for folders.
"""

import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from kmq.config.kinds import Kind
from kmq.model import reply
from kmq.model.reply import Reply

if TYPE_CHECKING:
    from kmq.config.connector import ConnectorSection

#: What `reply` of a connector of type error is when nobody says.
REFUSAL = "550 5.7.1 Mail for this domain is not delivered from here"

_LONGEST_REPLY = 400
_WORDS = 100


def _command(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    if not text.isprintable():
        raise ValueError(f"{text!r} has characters that cannot be seen: one command on one line is needed")
    try:
        words = tuple(shlex.split(text))
    except ValueError as wrong:
        raise ValueError(f"{text!r}: {str(wrong).lower()}: a word with blanks stands between two quotes") from None
    if not words or not words[0].startswith("/"):
        raise ValueError(f"{text!r} has no absolute path: no shell looks for the program, write /usr/lib/kmq/agent")
    if len(words) > _WORDS:
        raise ValueError(f"{len(words)} words are too many: at most {_WORDS}")
    return words


def command() -> Kind[tuple[str, ...]]:
    """A program and its arguments; () for none."""
    return Kind("a program's absolute path and its arguments, or nothing; no shell reads it", _command)


def _mode(text: str) -> int:
    digits = text.removeprefix("0")
    if len(digits) != 3 or not set(digits) <= set("01234567"):
        raise ValueError(f"{text!r} is no mode of a file: write three digits from 0 to 7, such as 640")
    mode = int(digits, 8)
    if mode & 0o600 != 0o600:
        raise ValueError(f"{text} takes the file from kmqd itself: the first digit has to be 6")
    if mode & 0o113:
        raise ValueError(f"{text} lets a file be run, or everybody write it: 640 and 660 are for a group")
    return mode


def file_mode() -> Kind[int]:
    """Permissions of a file."""
    return Kind("three octal digits: 600, 640, 644, 660 or 664", _mode)


def _refusal(text: str) -> Reply:
    found = reply.parse(text)
    if text[:3] != str(found.code) or not 400 <= found.code <= 599 or not found.enhanced or not found.text:
        raise ValueError(f"{text!r} is no refusal: write code, enhanced code and words, such as {REFUSAL}")
    if not text.isprintable() or len(text) > _LONGEST_REPLY:
        raise ValueError(f"the reply has to be one line of at most {_LONGEST_REPLY} characters that can be seen")
    return found


def refusal() -> Kind[Reply]:
    """A reply that refuses, for now (4xx) or for good (5xx)."""
    return Kind("SMTP reply with enhanced code (RFC 3463), 4xx or 5xx", _refusal)


# --- the folder of a foreign connector --------------------------------------------------------------------------------


def drop_directory(section: "ConnectorSection", spool: Path | str) -> str:
    """Where the files of a foreign connector go."""
    return section.drop_directory or f"{spool}/drop/{section.name}"


def in_spool(directory: str, spool: Path | str) -> bool:
    """Whether kmqd makes the folder itself, when it is missing."""
    return os.path.normpath(directory).startswith(f"{os.path.normpath(spool)}/")


# --- mistakes ---------------------------------------------------------------------------------------------------------

#: Option -> the types of connectors that it means something for.
_FOR = {
    "command": ("agent", "pipe"),
    "processes": ("agent",),
    "in_flight": ("agent",),
    "answer_timeout": ("agent",),
    "drop_directory": ("foreign",),
    "drop_mode": ("foreign",),
    "drop_quota": ("foreign",),
    "drop_quota_files": ("foreign",),
    "reply": ("error",),
}


def lacking(section: "ConnectorSection") -> Iterator[tuple[str, str]]:
    """(option, what to write) of what such a connector needs to be of any use, and has not."""
    if section.type in ("agent", "foreign", "discard", "error") and not section.address_spaces:
        yield "address_spaces", "address_spaces is missing: write address_spaces = fax, *.fax, or domains of your own"
    if section.type == "agent" and not section.command:
        yield "command", "command is missing: write command = /usr/lib/kmq/fax-agent, see kmq-agent(5)"


def mistakes(sections: Iterable["ConnectorSection"], spool: Path | None) -> Iterator[tuple[str, str, str]]:
    """(connector, option, what is wrong). spool: None when that is not known."""
    taken: dict[str, str] = {}
    for section in sections:
        for option, text in _misplaced(section):
            yield section.name, option, text
        if section.type == "foreign" and spool is not None:
            option = "drop_directory" if section.drop_directory else ""
            path = os.path.normpath(drop_directory(section, spool))
            other = taken.setdefault(path, section.name)
            wrong = f"{path} is the directory of [{other}] already: name another one" if other != section.name else ""
            wrong = wrong or _folder_mistake(path, os.path.normpath(spool))
            if wrong:
                yield section.name, option, wrong


def _misplaced(section: "ConnectorSection") -> Iterator[tuple[str, str]]:
    declared = type(section).__dataclass_fields__
    for option, types in _FOR.items():
        if section.type not in ("", *types) and getattr(section, option) != declared[option].default:
            yield option, f"{option} is for type = {types[0]}; this one is type = {section.type}"
    for option in ("connections", "connections_per_domain") if section.type == "agent" else ():
        if getattr(section, option) != declared[option].default:
            yield option, f"{option} is for servers: write processes, how many of the program there may be"


def _folder_mistake(path: str, root: str) -> str:
    within = os.path.dirname(path) == f"{root}/drop"
    if path == root or root.startswith(path.rstrip("/") + "/"):
        return f"{path} has the spool in it: name a directory beside it"
    if path.startswith(root + "/") and not within:
        return f"{path} is in the spool, where such files go into a folder right below {root}/drop"
    return ""
