"""The language of delivery agents: lines of JSON on their standard input and output, kmq-agent(5).

Promise:  pure. What is no sentence of the language is `Nonsense` that says why; replies are bounded, and can stand in
          an envelope. Lines are cut however the pipe cut them; one without end is nonsense, so memory is bounded.
On crash: nothing is kept.
Callers:  phases.agent_program.
"""

import re
from dataclasses import dataclass

import msgspec

from kmq import __version__
from kmq.config.sections import ConnectorSection
from kmq.model.envelope import Head
from kmq.model.reply import Reply
from kmq.phases.replies import as_reply, printable
from kmq.phases.work import Work

VERSION = 1
LINE_LIMIT = 64 << 10  #: bytes of one line of an agent

_CODE = re.compile(r"([245]\d\d)(?:[ -]|$)")

_encode = msgspec.json.Encoder().encode


# --- what kmq says ----------------------------------------------------------------------------------------------------


def hello(section: ConnectorSection) -> bytes:
    """The first line that a program hears."""
    said = {
        "type": "hello",
        "version": VERSION,
        "kmq": __version__,
        "connector": section.name,
        "in_flight": section.in_flight,
        "timeout": section.answer_timeout,
    }
    return _encode(said) + b"\n"


def message(number: int, work: Work, head: Head, path: str) -> bytes:
    """The line that hands a message over. head: as this connector is to see it; path: of the file that has it."""
    said = {
        "type": "message",
        "n": number,
        "id": head.id,
        "attempt": work.attempt,
        "created": head.created,
        "sender": head.sender,
        "recipients": [_recipient(head, index) for index in work.rcpt],
        "size": head.size,
        "path": path,
        "eight_bit": head.eight_bit,
        "smtputf8": head.smtputf8,
        "ret": head.ret,
        "envid": head.envid,
    }
    return _encode(said) + b"\n"


def _recipient(head: Head, index: int) -> dict[str, object]:
    one = head.recipients[index]
    return {
        "index": index,
        "address": one.address,
        "original": one.original,
        "orcpt": one.orcpt,
        "notify": one.notify,
    }


# --- what an agent says -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Greeting:
    """notices: it sees itself to what a sender asked about notices (RFC 3461)."""

    notices: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """About recipients of message `n`; rcpt None: about all that have none yet. unavailable: nothing was tried, and
    others would fare no better."""

    n: int
    rcpt: tuple[int, ...] | None
    reply: Reply
    unavailable: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """Message `n` is under way. percent: 0 to 100."""

    n: int
    percent: int


@dataclass(frozen=True, slots=True)
class Nonsense:
    """No sentence of the language."""

    why: str


Sentence = Greeting | Answer | Progress | Nonsense


class _Said(msgspec.Struct):
    """All that a line may have; what else stands there is passed over, for later versions."""

    type: str = "answer"
    version: int = 0
    notices: bool = False
    n: int = -1
    rcpt: list[int] | None = None
    reply: str = ""
    unavailable: bool = False
    percent: float = 0.0


_decode = msgspec.json.Decoder(_Said).decode


def read(line: bytes) -> Sentence:
    """What a line says."""
    try:
        said = _decode(line)
    except msgspec.MsgspecError as wrong:
        return Nonsense(f"{wrong}: {printable(line[:100])}")
    match said.type:
        case "hello":
            if said.version != VERSION:
                return Nonsense(f"it speaks version {said.version} of kmq-agent(5), not {VERSION}")
            return Greeting(said.notices)
        case "answer":
            return _answer(said)
        case "progress":
            return Progress(said.n, int(min(100.0, max(0.0, said.percent))))
        case other:
            return Nonsense(f"there is no sentence of type {printable(other[:40].encode('utf-8', 'replace'))}")


def _answer(said: _Said) -> Answer | Nonsense:
    code = _CODE.match(said.reply)
    if code is None:
        shown = printable(said.reply[:100].encode("utf-8", "replace"))
        return Nonsense(f"its answer about message {said.n} is no reply with a code 2xx, 4xx or 5xx: {shown!r}")
    reply = as_reply(int(code[1]), said.reply[4:].encode("utf-8", "replace"))
    if said.unavailable and code[1][0] != "4":
        return Nonsense(f"it is unavailable for message {said.n}, and its reply is not 4xx: {reply}")
    return Answer(said.n, None if said.rcpt is None else tuple(said.rcpt), reply, said.unavailable)


class Lines:
    """Whole lines out of what a pipe brings. endless: a line is longer than any may be; nothing is read after it."""

    __slots__ = ("_kept", "endless")

    def __init__(self) -> None:
        self._kept = b""
        self.endless = False

    def feed(self, piece: bytes) -> list[bytes]:
        *lines, self._kept = (self._kept + piece).split(b"\n")
        self.endless = len(self._kept) > LINE_LIMIT or any(len(line) > LINE_LIMIT for line in lines)
        if self.endless:
            self._kept = b""
        return lines
