"""rspamd's language: POST /checkv2 over HTTP, with the envelope in fields ahead of the message; JSON comes back.

Shape:    one connection for one question, in a thread of the caller's: http.client is a reader of HTTP that thousands
          rely on and bounds what it reads, and beside what rspamd does with a message a thread costs nothing.
Promise:  what a stranger wrote into the envelope ends no line of the request. What rspamd answers is a value, also that
          it does not answer or that it is no rspamd; at most LIMIT bytes of it are read, and of what it says only what
          has the documented shape counts (https://rspamd.com/doc/developers/protocol.html).
Limits:   `Call.stop` ends a call from outside; besides, each wait within it has `time_limit`.
Callers:  phases.antispam; admin.check_scanners.
"""

import contextlib
import http.client
import re
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeGuard

import msgspec

from kmq.config.kinds import write_endpoint
from kmq.config.scanner import Peer
from kmq.model.envelope import Head
from kmq.phases.inspection import Pieces
from kmq.phases.peers import Unanswered, unanswered
from kmq.phases.scanned import Unreadable

LIMIT = 1 << 20  #: bytes of an answer
_MOST = 100  #: symbols, and fields that it adds or removes
_LONGEST = 8000  #: characters of a value

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class Change(NamedTuple):
    """Of the header. how: add, append, remove, replace; as model.event.HeaderEdit has it."""

    how: str
    name: str
    value: str = ""
    place: int = 0


class Judgement(NamedTuple):
    """What rspamd says. action: its word; symbols: what it found, worst first; subject: instead of what it is, "" for
    none; reply: for the client of a message that it rejects; changes: of the header.
    """

    action: str
    score: float
    required: float
    symbols: tuple[str, ...] = ()
    subject: str = ""
    reply: str = ""
    changes: tuple[Change, ...] = ()


class _Line(http.client.HTTPConnection):
    """To a Unix socket, too."""

    def __init__(self, peer: Peer, time_limit: float) -> None:
        host, port = ("localhost", 80) if isinstance(peer, str) else peer
        super().__init__(host, port, timeout=time_limit)
        self._path = peer if isinstance(peer, str) else ""

    def connect(self) -> None:
        if not self._path:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Call:
    """One question, for one thread. stop: may be said in another one."""

    def __init__(self, peer: Peer, time_limit: float) -> None:
        self._peer = peer
        self._line = _Line(peer, time_limit)

    def stop(self) -> None:
        """Whoever waits in it hears that the connection broke off."""
        line = self._line.sock
        if line is not None:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def check(self, head: Head, hostname: str, pieces: Pieces, rcpt: tuple[int, ...]) -> Judgement | Unanswered:
        """What it says of a message. Unreadable; BodyDamaged."""
        line = self._line
        try:
            with contextlib.closing(line):
                line.connect()
                line.putrequest("POST", "/checkv2", skip_host=True, skip_accept_encoding=True)
                for name, value in fields_of(head, hostname, self._peer, rcpt):
                    line.putheader(name, value)
                line.endheaders()
                _send(line, pieces)
                return _answer(line)
        except http.client.HTTPException as error:
            return Unanswered(f"it speaks no HTTP: {type(error).__name__} {error}"[:200])
        except TimeoutError:
            return Unanswered("no answer in time")
        except OSError as error:
            return unanswered(error)

    def ping(self) -> str | Unanswered:
        """`pong` and who says so: `rspamd/3.4`."""
        line = self._line
        try:
            with contextlib.closing(line):
                line.request("GET", "/ping")
                answer = line.getresponse()
                text = answer.read(LIMIT).decode("ascii", "replace").strip()
                server = answer.getheader("Server") or "rspamd"
        except (http.client.HTTPException, OSError) as error:
            return unanswered(error) if isinstance(error, OSError) else Unanswered("it speaks no HTTP")
        return server if text == "pong" else Unanswered(f"it is no rspamd: it says {text[:80]!r}")


def fields_of(head: Head, hostname: str, peer: Peer, rcpt: tuple[int, ...]) -> Iterator[tuple[str, bytes]]:
    """The envelope, as rspamd wants it. There is one Rcpt for each recipient."""
    source = head.source
    known = {
        "Host": "localhost" if isinstance(peer, str) else write_endpoint(*peer),
        "Content-Length": str(head.size),
        "From": head.sender or "<>",
        "IP": source.ip,
        "Helo": source.helo,
        "User": source.user,
        "Queue-Id": head.id,
        "MTA-Name": hostname,
        "Connection": "close",
    }
    yield from ((name, _one_line(value)) for name, value in known.items() if value)
    yield from (("Rcpt", _one_line(head.recipients[index].address)) for index in rcpt)


def _one_line(text: str) -> bytes:
    return _CONTROLS.sub("?", text).encode("utf-8", "replace")


def _send(line: http.client.HTTPConnection, pieces: Pieces) -> None:
    coming = pieces()
    while True:
        try:
            piece = next(coming, None)
        except OSError as error:
            raise Unreadable(error) from error
        if piece is None:
            return
        try:
            line.send(piece)
        except ConnectionError:
            return  # it may have said why


# --- what it answers -------------------------------------------------------------------------------------------------


def _answer(line: http.client.HTTPConnection) -> Judgement | Unanswered:
    answer = line.getresponse()
    text = answer.read(LIMIT + 1)
    if answer.status != http.client.OK:
        return Unanswered(f"it says {answer.status} {_CONTROLS.sub('?', answer.reason)[:100]}")
    if len(text) > LIMIT:
        return Unanswered(f"it says more than {LIMIT} bytes")
    if answer.length:  # bytes that it promised
        return Unanswered("it broke off in mid-answer")
    return judgement_of(text)


def judgement_of(text: bytes) -> Judgement | Unanswered:
    """The judgement of an answer's JSON."""
    try:
        said = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Unanswered("it says what is no JSON")
    said = _table(said)
    action, score = said.get("action"), said.get("score")
    if not isinstance(action, str) or not _is_number(score):
        return Unanswered(f"it says no action: {_shown(said.get('error')) or 'nothing of what is documented'}")
    required = said.get("required_score")
    return Judgement(
        action=_shown(action)[:40],
        score=float(score),
        required=float(required) if _is_number(required) else 0.0,
        symbols=_symbols(_table(said.get("symbols"))),
        subject=_shown(said.get("subject")),
        reply=_shown(_table(said.get("messages")).get("smtp_message"))[:500],
        changes=tuple(_changes(said))[:_MOST],
    )


def _symbols(found: dict[str, Any]) -> tuple[str, ...]:
    """Names, the worst first."""
    scores = [(_number(_table(one).get("score")), ascii(_shown(name))[1:-1][:80]) for name, one in found.items()]
    return tuple(name for _, name in sorted(scores, key=lambda one: (-one[0], one[1])))[:_MOST]


def _changes(said: dict[str, Any]) -> Iterator[Change]:
    milter = _table(said.get("milter"))
    for name, places in _table(milter.get("remove_headers")).items():
        for place in _several(places):
            nth = int(min(_number(place), _MOST))
            yield Change("replace", name, place=nth) if nth > 0 else Change("remove", name)
    for name, values in _table(milter.get("add_headers")).items():
        for one in _several(values):
            order = _table(one).get("order")
            value = _shown(_table(one).get("value") if isinstance(one, dict) else one)
            if _is_number(order) and order >= 0:
                yield Change("add", name, value, int(min(order, _MOST)))
            else:
                yield Change("append", name, value)
    for signature in _several(said.get("dkim-signature")):
        yield Change("add", "DKIM-Signature", _folded(signature))


def _several(value: object) -> list[Any]:
    """One thing or a list of them."""
    if value is None:
        return []
    return value[:_MOST] if isinstance(value, list) else [value]


def _table(value: object) -> dict[str, Any]:
    """An empty table of Lua may come as an empty list."""
    return value if isinstance(value, dict) else {}


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: object) -> float:
    return float(value) if _is_number(value) else 0.0


def _shown(value: object) -> str:
    """A text on one line."""
    return _CONTROLS.sub(" ", value.encode("utf-8", "replace").decode())[:_LONGEST] if isinstance(value, str) else ""


def _folded(value: object) -> str:
    """A text that may have folds, each of which stays one."""
    lines = re.split(r"\r?\n[ \t]+", value) if isinstance(value, str) else []
    return "\r\n\t".join(_shown(line) for line in lines)[:_LONGEST]
