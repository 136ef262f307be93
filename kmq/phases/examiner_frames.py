"""What a worker and its examiner say to each other: one question at a time, one answer each.

Shape:   a 32-bit little-endian length and JSON. Descriptors come along with the question (SCM_RIGHTS): that of the body
         first; behind it, for `Extract`, that of the file to write to. Both sides read and write at places (pread,
         pwrite), since they share the descriptors' own.
Bounds:  a question is at most 64 kB, an answer 64 MB; a worker that reads more ends the examiner.
Callers: phases.examining, phases.examiner.
"""

from struct import Struct

import msgspec

from kmq.phases.facts import Facts

LENGTH = Struct("<I")
QUESTION_LIMIT = 64 << 10
ANSWER_LIMIT = 64 << 20

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
