"""The options of content filtering: attachments that are not let through, and what may be examined at all.

Promise:  as in `sections`, where they are exported with the others; `mistakes` as in `checks`.
Callers:  `sections`, `reading`; phases.content_attachments and phases.examining are handed sections.
"""

import re
from collections.abc import Iterable, Iterator

from kmq.config import kinds
from kmq.config.kinds import Kind, parts
from kmq.config.options import option, section
from kmq.config.scanner import mailbox

_TOKEN = re.compile(r"[!#-'*+\-.0-9A-Z^-~?\[\]]+", re.IGNORECASE).fullmatch
#: Wildcards of a name; more stars than these have no use, and take time.
_LONGEST, _STARS = 200, 10

_VERDICTS = (
    " `accept`: it goes on, but for attachments that were found all the same. `hold`: it is held; `kmq resume` lets it"
    " go on past the filter, `kmq remove` ends it. `reject`: its sender is told (550 5.7.1)."
)


def _each(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(parts(text)))


def _name(text: str) -> str:
    if "/" in text or "\\" in text:
        last = text.replace("\\", "/").rpartition("/")[2] or "the name alone"
        raise ValueError(f"{text!r}: names of files are meant, without folders: write {last}")
    if len(text) > _LONGEST or not text.isprintable():
        raise ValueError(f"{text!r} is no name of a file: at most {_LONGEST} characters that can be seen")
    if text.count("*") > _STARS:
        raise ValueError(f"{text!r} has more than {_STARS} stars")
    if text.startswith("."):
        raise ValueError(f"{text!r} fits a file of just this name: write *{text}, or [.]{text[1:]}")
    return text


def names() -> Kind[tuple[str, ...]]:
    """Names of files with `*` for any characters, `?` for one, `[...]` for one of some."""
    return Kind(
        "list of file names; `*`, `?` and `[abc]` stand for other characters",
        lambda text: tuple(map(_name, _each(text))),
    )


def _type(text: str) -> str:
    major, slash, minor = text.partition("/")
    if not slash or not _TOKEN(major) or not _TOKEN(minor):
        raise ValueError(f"{text!r} is no type: write application/zip, or video/*")
    if major == "multipart":
        raise ValueError(f"{text!r}: a multipart has attachments, and is none; write the types of those")
    return text.lower()


def types() -> Kind[tuple[str, ...]]:
    """MIME types with wildcards."""
    return Kind("list of MIME types; `*` stands for other characters", lambda text: tuple(map(_type, _each(text))))


@section
class ContentSection:
    """How far mail is examined for [NAME : attachment], and for rules and scanners that look at attachments.

    A program of its own reads what strangers send, without network or files, with limits of memory and time.
    """

    unreadable: str = option(
        kinds.choice("accept", "hold", "reject"),
        default="hold",
        doc="What becomes of mail whose parts have no sure reading, so that a reader of mail may find others than kmq:"
        " two types for one part, a multipart without boundary, a broken or split ZIP archive." + _VERDICTS,
    )
    beyond_limits: str = option(
        kinds.choice("accept", "hold", "reject"),
        default="hold",
        doc="The same of mail that goes beyond the limits below, as a ZIP bomb does.",
    )
    depth: int = option(kinds.whole(1, 90), default="50", doc="Most multiparts and messages within each other.")
    parts: int = option(kinds.whole(1, 9000), default="1000", doc="Most parts of a message.")
    archive_depth: int = option(kinds.whole(1, 20), default="4", doc="Most ZIP archives within each other.")
    archive_files: int = option(
        kinds.whole(1, 100000), default="10000", doc="Most files in all the ZIP archives of a message."
    )
    archive_size: int = option(
        kinds.size("1M", "4000M"), default="1G", doc="Most bytes that a message's ZIP archives say they are unpacked."
    )
    archive_ratio: int = option(
        kinds.whole(10, 10000),
        default="250",
        doc="How often as large as it is a ZIP archive may become when it is unpacked, beyond 10M.",
    )
    examiners: int = option(
        kinds.whole(1, 16), default="1", doc="Programs that examine mail, for each worker; begun when first needed."
    )
    time_limit: float = option(
        kinds.duration("1s", "10m"),
        default="10s",
        doc="Longest time of the processor for one message. Beyond it the program is ended, and that counts as a crash"
        " of the message (`poison_threshold`). One that does not answer for six times as long is ended too, and the"
        " mail is tried again.",
    )
    memory: int = option(
        kinds.size("16M", "2G"),
        default="64M",
        doc="Memory that the program may take beyond what it begins with; needing more counts as a crash, too.",
    )
    warn_sender: bool = option(
        kinds.yes_or_no(),
        default="no",
        doc="Whether a sender is told that an attachment of his was taken out. Never who has the empty address, and"
        " never in answer to lists or to what answers by itself (RFC 3834). Senders may be forged.",
    )
    forward_original: str = option(
        mailbox(), default="", doc="Who gets mail out of which an attachment is taken, as it came."
    )
    forward_filtered: str = option(mailbox(), default="", doc="Who gets it as it goes on.")


@section
class AttachmentSection:
    """Attachments that are taken out of mail, or let through, by name or type, also in ZIP archives.

    An attachment is every part of a message but its text: text/plain and text/html without a file name. The first
    section in the file that fits one counts; what none fits is let through. Of a part with several names each counts,
    without regard to case, invisible characters, and dots and blanks at its end. When a file in an archive is blocked,
    the whole archive is taken out; files in documents that are ZIP archives by themselves (docx, odt, ..) are no
    attachments. The message is delivered with a note in the place of what was taken out.
    """

    name: str
    action: str = option(
        kinds.choice("block", "accept"),
        default="block",
        doc="`block`: what fits is taken out. `accept`: it is let through, whatever later sections say; an archive that"
        " is accepted is not looked into.",
    )
    names: tuple[str, ...] = option(names(), default="", doc="What fits: `*.exe, invoice-*.js`.")
    types: tuple[str, ...] = option(
        types(),
        default="",
        doc="What fits, as its header says it or as its first bytes look: `application/x-dosexec` is a program for"
        " Windows, whatever it is called. A section needs names or types; with both, either will do.",
    )
    description: str = option(
        kinds.word(), default="", doc="Why it is not let through, for the note that stands in its place."
    )


def lacking(one: AttachmentSection) -> Iterator[tuple[str, str]]:
    """What a section needs to be of any use, and has not, as (option, what is wrong)."""
    if not one.names and not one.types:
        yield "names", "it fits nothing: write names = *.exe, or types = application/x-dosexec"


def mistakes(sections: Iterable[AttachmentSection]) -> Iterator[tuple[str, str, str]]:
    """(section, option, what is wrong) of what cannot be meant: a section that an earlier one leaves nothing."""
    everything = ""
    for one in sections:
        if everything:
            yield one.name, "action", f"[{everything}] fits every attachment: put this section ahead of it"
        for name, text in lacking(one):
            yield one.name, name, text
        if "*" in one.names or "*/*" in one.types:
            everything = everything or one.name
