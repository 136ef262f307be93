"""The program that reads what strangers send: a process of its own, so that nothing it reads can do harm.

What:     `python -m kmq.phases.examiner SOCKET SCRATCH MEMORY`, begun by a worker with two descriptors. It answers one
          question after the other (phases.examiner_frames): what is in a message, and a part of it decoded. What was
          asked together is answered together.
Promise:  it has no network, begins no program, and changes no file but those that it is handed; memory, processor time
          and sizes of files have limits. It reads bodies in pieces and keeps nothing from one message to the next.
On crash: and beyond a limit, it dies, with its trace on standard error; the worker begins another. It ends when its
          worker does.
Callers:  phases.examining.
"""

import contextlib
import faulthandler
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Protocol

import msgspec

from kmq.jail import leaving, syscalls
from kmq.phases.decoding import decoder
from kmq.phases.examiner_frames import (
    LENGTH,
    LENGTHS,
    Answer,
    Broken,
    Damaged,
    Examine,
    Examined,
    Extract,
    Extracted,
    Hindered,
    Question,
    Ready,
)
from kmq.phases.facts import Member, Verdict
from kmq.phases.header_words import know_charsets
from kmq.phases.part_reading import Archive, Bounds, Found, Reading
from kmq.phases.zip_listing import Broken as BrokenArchive
from kmq.phases.zip_listing import Limits, Region, Scratch, Tally, TooMuch, members

PIECE = 128 << 10
#: Bytes that are read at once: nearly always all that is asked.
_AT_ONCE = 32 << 10
#: Largest file that may be written, whatever a question says.
_LARGEST = 8 << 30


class Slate(Scratch, Protocol):
    """What archives lie in while they are listed. used: it has been written to."""

    used: bool


class ScratchFile:
    """The file that our worker gave us: a Slate."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.used = False

    def write(self, at: int, piece: bytes) -> None:
        self.used = True
        _write(self._fd, at, piece)

    def read(self, at: int, count: int) -> bytes:
        found = b""
        while len(found) < count and (piece := os.pread(self._fd, count - len(found), at + len(found))):
            found += piece
        return found


class ZipArchive:
    """A ZIP archive that comes piece by piece: part_reading.Archive. Only one is open at a time."""

    def __init__(self, found: Found, scratch: Slate, tally: Tally) -> None:
        self._found = found
        self._scratch = scratch
        self._tally = tally
        self._size = 0

    def feed(self, piece: bytes) -> None:
        self._scratch.write(self._size, piece)
        self._size += len(piece)

    def members(self, part: int, part_names: Sequence[str]) -> list[Member]:
        listed: list[Member] = []
        try:
            for one in members(Region(self._scratch, 0, self._size), self._tally, part, part_names):
                listed.append(one)
        except BrokenArchive as why:
            self._found.note(Verdict.UNREADABLE, str(why))
        except TooMuch as why:
            self._found.note(Verdict.LIMITS, str(why))
        return listed


def examined(said: Examine, body: int | bytes, scratch: Slate) -> Answer:
    """Reads the whole body once: from its descriptor, or as it came along."""
    limits = Limits(said.archive_depth, said.archive_files, said.archive_size, said.archive_ratio)
    tally = Tally(limits)

    def archive(found: Found) -> Archive:
        return ZipArchive(found, scratch, tally)

    found = Found(Bounds(said.depth, said.parts), archive)
    reading = Reading(found)
    checksum = sha256()
    at = 0
    for piece in _pieces(body, said.size):
        checksum.update(piece)
        at += len(piece)
        reading.feed(piece)
    if at != said.size or checksum.hexdigest() != said.sha256:
        return Damaged("the body is not what was accepted")
    reading.end(said.size)
    return Examined(found.facts(), scratch.used)


def _pieces(body: int | bytes, size: int) -> Iterator[bytes]:
    """What there is of a body, up to the size that it should have."""
    if isinstance(body, bytes):
        yield body
        return
    at = 0
    while at < size and (piece := os.pread(body, min(PIECE, size - at), at)):
        at += len(piece)
        yield piece


def extracted(said: Extract, body: int, out: int) -> Answer:
    """Decodes a part. It was read whole before, when its place was found."""
    undoing = decoder(said.encoding)
    kept = b""
    at, written = said.start, 0
    while at < said.end and (piece := os.pread(body, min(PIECE, said.end - at), at)):
        at += len(piece)
        lines, newline, kept = (kept + piece).rpartition(b"\n")
        written += _write(out, written, undoing.feed(lines + newline))
    written += _write(out, written, undoing.feed(kept) + undoing.end())
    return Extracted(written)


def _write(fd: int, at: int, piece: bytes) -> int:
    """All of a piece; -> its length."""
    done = 0
    while done < len(piece):
        done += os.pwrite(fd, piece[done:] if done else piece, at + done)
    return done


# --- one question after the other -------------------------------------------------------------------------------------


def _answered(said: Question, body: bytes, descriptors: list[int], scratch: ScratchFile) -> Answer:
    try:
        if isinstance(said, Examine):
            scratch.used = False
            return examined(said, descriptors[0] if descriptors else body, scratch)
        return extracted(said, descriptors[0], descriptors[1])
    except OSError as error:
        return Hindered(f"{error.strerror or error}")


class Allowance:
    """Processor time; beyond, the kernel ends us (SIGXCPU). Its limit moves on once a second of that, not with each
    question: a question has what it may take, and at most two seconds more.
    """

    def __init__(self) -> None:
        self._until = 0

    def grant(self, seconds: float) -> None:
        """So much from now on."""
        needed = time.process_time() + seconds
        if not needed <= self._until <= needed + 2:
            self._until = int(needed) + 2
            resource.setrlimit(resource.RLIMIT_CPU, (self._until, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _serve(worker: socket.socket, scratch: ScratchFile) -> None:
    question = msgspec.json.Decoder(Question)
    allowance = Allowance()
    while True:
        asked, descriptors = _asked(worker)
        if not asked:
            return
        answers: list[Answer] = []
        try:
            for text, body in asked:
                said = question.decode(text)
                allowance.grant(said.seconds)
                answers.append(_answered(said, body, descriptors, scratch))
        except Exception as error:
            why, trace = f"{type(error).__name__}: {error}"[:1000], traceback.format_exc(-20)[-20_000:]
            _tell(worker, *answers, Broken(why, trace))
            return
        finally:
            for fd in descriptors:
                os.close(fd)
        _tell(worker, *answers)


def _asked(worker: socket.socket) -> tuple[list[tuple[bytes, bytes]], list[int]]:
    """The next questions, each with the body that came with it, and descriptors; nothing when the worker is gone."""
    text = b""
    descriptors: list[int] = []
    while not (questions := _questions(text)):
        piece, more, _, _ = socket.recv_fds(worker, _AT_ONCE, 2)
        if not piece:
            return [], []
        descriptors += more
        text = text + piece if text else piece
    return questions, descriptors


def _questions(text: bytes) -> list[tuple[bytes, bytes]]:
    """Those of a text that ends with one; what is said together comes whole, so that more is on its way otherwise."""
    found = []
    at = 0
    while at + LENGTHS.size <= len(text):
        question, body = LENGTHS.unpack_from(text, at)
        begin = at + LENGTHS.size + question
        at = begin + body
        found.append((text[begin - question : begin], text[begin:at]))
    return found if at == len(text) else []


def _tell(worker: socket.socket, *answers: Answer) -> None:
    told = [msgspec.json.encode(answer) for answer in answers]
    worker.sendall(b"".join([piece for text in told for piece in (LENGTH.pack(len(text)), text)]))


def _confined(memory: int) -> list[str]:
    """Gives up all that is not needed; -> what this kernel did not grant."""
    alone = leaving.leave_network()
    kept = leaving.forbid_changes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST, _LARGEST))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    leaving.limit_memory(memory)
    leaving.begin_nothing()
    bound = syscalls.give_up()  # no socket, and no file that is opened to be written
    lacking = {"a network of its own": alone or bound, "files that cannot be changed": kept or bound}
    return [one for one, granted in lacking.items() if not granted]


def _keep(*wanted: int) -> None:
    """Closes all descriptors but these and the standard ones: what the worker was given itself is not ours."""
    for one in map(int, os.listdir("/proc/self/fd")):
        if one > 2 and one not in wanted:
            with contextlib.suppress(OSError):  # that of the listing is closed already
                os.close(one)


def main() -> int:
    """The program; its standard error is the worker's, for a trace."""
    fd, scratch, memory = map(int, sys.argv[1:])
    _keep(fd, scratch)
    faulthandler.enable()
    know_charsets()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the worker says when
    with socket.socket(fileno=fd) as worker:
        _tell(worker, Ready(_confined(memory)))
        _serve(worker, ScratchFile(scratch))
    return 0


if __name__ == "__main__":
    sys.exit(main())
