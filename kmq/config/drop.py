"""The options of drop directories: [pickup] and [replay], and what they must not be.

Promise:  as `sections`; `mistakes` is pure, and looks at the texts of paths alone. Whether a directory is there, and
          whose it is, is seen when kmqd starts.
Callers:  `sections` and `reading`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from kmq.config import kinds
from kmq.config.options import option, section

#: The folders of the spool that may be drop directories.
IN_SPOOL = ("pickup", "replay")

_OWNERS = " kmqd's own user and root always may."
_RATE = "Most files that are taken within a minute; those above wait."
_SCAN = (
    "How often the directory is looked through. What is closed after writing, or renamed in, is taken at once; what"
    " only such a look finds, when it has not changed until the next one. 0: never, for measuring."
)
_LINES = "Longest line of a message in bytes without its end (RFC 5322 2.1.1); lines are never broken up."


@section
class PickupSection:
    """The directory into which programs drop new mail: sender and recipients are read from its header."""

    directory: str = option(
        kinds.file(),
        derived="${kmq:spool}/pickup",
        doc="Files that end in `.eml` here are taken, become `.tmp` meanwhile, and are gone when their message is safe"
        " in the queue; one that cannot be a message becomes `.bad`, with the reason beside it. kmqd makes"
        " `${kmq:spool}/pickup` (mode 0770) itself; any other directory has to be there, outside the spool, with one"
        " kmqd for it. Empty: none.",
    )
    messages_per_minute: int = option(kinds.whole(1, 20000), default="100", doc=_RATE)
    size_limit: int = option(kinds.size("1K", "2G"), default="25M", doc="Largest message.")
    header_size: int = option(kinds.size("1K", "96K"), default="64K", doc="Largest header of a message.")
    recipient_limit: int = option(kinds.whole(1, 10000), default="100", doc="Most recipients of one message.")
    line_limit: int = option(kinds.size("998", "1M"), default="998", doc=_LINES)
    owners: tuple[str, ...] = option(
        kinds.owners(), default="*", doc="Users whose files are taken; `*`: of all who can write there." + _OWNERS
    )
    scan_interval: float = option(kinds.duration("0", "1h"), default="5s", doc=_SCAN)


@section
class ReplaySection:
    """The directory for mail that was in a queue before: each file names its sender and recipients in X-headers."""

    directory: str = option(
        kinds.file(),
        derived="${kmq:spool}/replay",
        doc="As that of [pickup]; `${kmq:spool}/replay` has mode 0700, since whoever can write here can send any mail"
        " in anybody's name. Empty: none.",
    )
    messages_per_minute: int = option(kinds.whole(1, 20000), default="100", doc=_RATE)
    size_limit: int = option(kinds.size("1K", "2G"), default="25M", doc="Largest message.")
    line_limit: int = option(kinds.size("998", "1M"), default="998", doc=_LINES)
    hop_limit: int = option(kinds.whole(1, 1000), default="50", doc="Most `Received:` lines; more is a loop.")
    owners: tuple[str, ...] = option(
        kinds.owners(), default="", doc="Users whose files are taken, besides. `*`: all who can write there." + _OWNERS
    )
    scan_interval: float = option(kinds.duration("0", "1h"), default="5s", doc=_SCAN)


def mistakes(spool: Path, pickup: str, replay: str) -> Iterator[tuple[str, str]]:
    """(section, sentence) of each directory that cannot be one. "" is a directory that is switched off."""
    root = os.path.normpath(spool)
    named = {"pickup": pickup, "replay": replay}
    for section_name, directory in named.items():
        if not directory:
            continue
        path = os.path.normpath(directory)
        inside = path.startswith(root + "/")
        if path == root or root.startswith(path.rstrip("/") + "/"):
            yield section_name, f"{directory} has the spool in it: name a directory beside it"
        elif inside and path[len(root) + 1 :] not in IN_SPOOL:
            yield section_name, f"{directory} is in the spool, where only pickup and replay are drop directories"
    if pickup and os.path.normpath(pickup) == os.path.normpath(replay or "."):
        yield "replay", f"{replay} is the directory of [pickup] already: what is allowed there is not allowed here"
