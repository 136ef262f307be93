"""What the examiner finds out about a message: its headers, its parts by byte ranges, the members of its archives.

Promise:  values. All text in them is a stranger's: bounded, decoded, of any characters; a name is no path, and whoever
          shows one escapes it. Byte ranges count from the start of the body as it lies in <id>.eml. What a reader of
          mail and we might read differently is told (`verdict`), never guessed away.
Callers:  phases.examining fills them; attachment rules, server rules and scanners look.
"""

from collections.abc import Iterator, Sequence
from enum import Enum

import msgspec


class Verdict(Enum):
    """Whether all of a message could be looked at; the value is the word in events and for people."""

    WHOLE = ""
    #: Has no sure reading, or is broken: readers of mail may find other parts than we do.
    UNREADABLE = "unreadable"
    #: Deeper, or with more or larger parts, than [content] allows; what lies beyond was not looked at.
    LIMITS = "limits"


class HeaderLine(msgspec.Struct, frozen=True, array_like=True):
    """A field of the message's own header. name: lower case; value: one line, encoded words decoded (RFC 2047), 8-bit
    text as UTF-8 where it is such.
    """

    name: str
    value: str


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of the message, in the order of their bytes; number 0 is the message itself.

    parent:      number of the multipart or message that it stands in, -1 for the message itself.
    depth:       0 for the message itself, one more for each multipart and message around it.
    type:        `application/zip`, lower case, as its header says it or as RFC 2045 5.2 has it by default.
    names:       all file names that its header gives it, RFC 2231 and 2047 decoded, best first; readers of mail do not
                 agree on which one counts.
    disposition: `attachment`, `inline`, or "".
    encoding:    `base64`, `quoted-printable`, `7bit`, ..; lower case, "" for none.
    start, text, end: the part is body[start:end], its header ahead of `text`; the line end ahead of the boundary is
                 the boundary's, and not within it. end is -1 when it could not be found, in mail that is unreadable.
    size:        bytes of its text decoded; 0 for what has parts.
    magic:       the type that its first bytes look like, "" when unknown.
    sealed:      it lies in something signed: taking it out breaks the signature.
    message:     its header is that of a whole message: of this one, or of one that is attached.
    within:      number of the part with a transfer encoding around it, in which it has no byte range of its own (a
                 message in base64); -1 for none. start and end are those of that part then.
    """

    number: int
    parent: int
    depth: int
    type: str
    names: tuple[str, ...] = ()
    disposition: str = ""
    encoding: str = ""
    start: int = 0
    text: int = 0
    end: int = 0
    size: int = 0
    magic: str = ""
    sealed: bool = False
    message: bool = False
    within: int = -1

    @property
    def name(self) -> str:
        """The best file name, "" for none."""
        return self.names[0] if self.names else ""

    @property
    def container(self) -> bool:
        """It is a multipart."""
        return self.type.startswith("multipart/")

    @property
    def attachment(self) -> bool:
        """It is neither a multipart nor the text that a person reads: text/plain or text/html without a file name."""
        if self.container or (self.number == 0 and self.type.startswith("message/")):
            return False
        return bool(self.names) or self.disposition == "attachment" or self.type not in ("text/plain", "text/html")


class Member(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file in an archive, or in an archive within it.

    part:      number of the part that is the archive.
    name:      as the archive names it, folders and all.
    size:      as the archive says it, unpacked.
    archives:  names of the archives between the part and it, outermost first; () when the part is its archive.
    """

    part: int
    name: str
    size: int = 0
    encrypted: bool = False
    magic: str = ""
    archives: tuple[str, ...] = ()


class Attachment(msgspec.Struct, frozen=True):
    """What rules are about: a part, or a member of one that is an archive.

    name: the best one, "" for none; names: all; type: "" for members; size: decoded, unpacked; inside: the name of the
    part that is the archive, "" when it is none's member; part: number of the part to take out.
    """

    name: str
    names: tuple[str, ...]
    type: str
    magic: str
    size: int
    encrypted: bool
    member: bool
    inside: str
    part: int


class Facts(msgspec.Struct, frozen=True):
    """All about one message. headers: Subject, Auto-Submitted, Precedence and List-*, by which its sender is warned of
    what was taken out, or is not; why: of the verdict, a sentence without its end, "" when all could be looked at.
    """

    headers: tuple[HeaderLine, ...]
    parts: tuple[Part, ...]
    members: tuple[Member, ...] = ()
    verdict: Verdict = Verdict.WHOLE
    why: str = ""

    def values(self, name: str) -> Iterator[str]:
        """The decoded values of all fields of a name (lower case)."""
        return (line.value for line in self.headers if line.name == name)

    @property
    def attachments(self) -> Sequence[Attachment]:
        """Parts that are attachments, each followed by its members."""
        members: dict[int, list[Member]] = {}
        for one in self.members:
            members.setdefault(one.part, []).append(one)
        found = []
        for part in self.parts:
            if part.attachment:
                found.append(_of_part(part))
                found += [_of_member(one, part) for one in members.get(part.number, ())]
        return found


def _of_part(part: Part) -> Attachment:
    return Attachment(
        name=part.name,
        names=part.names,
        type=part.type,
        magic=part.magic,
        size=part.size,
        encrypted=False,
        member=False,
        inside="",
        part=part.number,
    )


def _of_member(member: Member, part: Part) -> Attachment:
    return Attachment(
        name=member.name,
        names=(member.name,),
        type="",
        magic=member.magic,
        size=member.size,
        encrypted=member.encrypted,
        member=True,
        inside="/".join((part.name or part.type, *member.archives)),
        part=part.number,
    )


class Cause(Enum):
    """Why there are no facts; the value is the word in logs."""

    CRASHED = "crashed"  #: the examiner died of this message, or went beyond its memory or its time
    DAMAGED = "damaged"  #: the body is not what was accepted
    UNAVAILABLE = "unavailable"  #: no examiner can be had now, or the body cannot be read now: try again


class Trouble(msgspec.Struct, frozen=True):
    """Why there are no facts. why: for people and the envelope; trace: where the examiner stood, if that is known."""

    cause: Cause
    why: str
    trace: str = ""
