"""What a worker and its examiner say to each other: questions, and one answer to each.

Shape:   an answer is a 32-bit little-endian length and JSON; a question has two lengths, of its JSON and of a small
         body behind it. Several questions may be said together; their answers are, in the same order. A larger body
         comes along as a descriptor (SCM_RIGHTS), and so does, behind it, the file that `Extract` has written: such a
         question is said alone. Both sides read and write at places, since they share the descriptors' own.
Bounds:  a question is some hundred bytes beside its body, an answer 64 MB; a worker that reads more ends the examiner.
Callers: phases.examining, phases.examiner.
"""

from struct import Struct

import msgspec

from kmq.phases.facts import Facts

LENGTH = Struct("<I")
LENGTHS = Struct("<II")
#: A body up to this size goes with its question: a socket takes both whole, and no file need be made of it.
SMALL = 64 << 10
ANSWER_LIMIT = 64 << 20
#: Questions that are said together, at most; their small bodies have no more than SMALL in all.
TOGETHER = 8

#: Words on the examiner's command line, ahead of the numbers of its descriptors.
MODULE = "kmq.phases.examiner"


class Examine(msgspec.Struct, tag="examine"):
    """Which facts are there? size, sha256: of the body, as it was accepted; the others as in [content]."""

    size: int
    sha256: str
    depth: int
    parts: int
    archive_depth: int
    archive_files: int
    archive_size: int
    archive_ratio: int
    seconds: float


class Extract(msgspec.Struct, tag="extract"):
    """Write body[start:end], decoded, to the second descriptor."""

    start: int
    end: int
    encoding: str
    seconds: float


class Examined(msgspec.Struct, tag="examined"):
    """The facts. scratch: the scratch file was written to."""

    facts: Facts
    scratch: bool


class Extracted(msgspec.Struct, tag="extracted"):
    """All is written: so many bytes."""

    size: int


class Damaged(msgspec.Struct, tag="damaged"):
    """The body is not what was accepted."""

    why: str


class Hindered(msgspec.Struct, tag="hindered"):
    """The machine does not let us: a disk that is full, a file that cannot be read."""

    why: str


class Broken(msgspec.Struct, tag="broken"):
    """Our own program failed on this message, and ends."""

    why: str
    trace: str


class Ready(msgspec.Struct, tag="ready"):
    """The first word of an examiner. lacking: what of its confinement this kernel did not grant."""

    lacking: list[str]


Question = Examine | Extract
Answer = Examined | Extracted | Damaged | Hindered | Broken | Ready
