"""Handing a message to kmqd, over the socket that is there for the programs of this machine.

Promise:  Taken only when kmqd has said that the message is durable. As long as kmqd does not run, or says that it
          cannot just now, it is asked again, for PATIENCE seconds; then the answer is why. A message goes to all of
          its recipients or to none.
On crash: until the last byte is sent nothing was taken. Whoever is killed between it and kmqd's word may find the
          message taken, whole. If it is kmqd that breaks off there, the message is handed in again, as SMTP has it: it
          may be taken twice, and is never lost.
Callers:  cli.sendmail, cli.submit.
"""

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from kmq.cli.letter import Letter

#: Where kmqd's service listens; a kmqd that is configured otherwise is found by its configuration.
USUAL = "/run/kmq/submit.sock"

PATIENCE = 10.0  #: seconds that kmqd is waited for
ANSWER = 300.0  #: seconds that it may be silent once it has the message: disks are slow at times, and it may be taken
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.5
_TOGETHER = 100  #: recipients said before the replies are read: neither side's buffer overflows
_ADDRESS = 107  #: bytes of a path that fit into a Unix socket's address
_REPLY_LIMIT = 64 * 1024


class Reply(NamedTuple):
    """What kmqd said. code: of SMTP; text: behind the code, lines joined by blanks."""

    code: int
    text: str

    @property
    def enhanced(self) -> str:
        """`5.1.1`, or ""."""
        word = self.text.partition(" ")[0]
        return word if word.replace(".", "").isdecimal() and word.count(".") == 2 else ""


class Order(NamedTuple):
    """One message to be sent: arguments of MAIL behind the path, and recipients with the arguments of RCPT.

    sender, recipients: addresses, bare ones allowed; they hold no control character. from_header: Bcc is to go.
    """

    sender: str
    recipients: Sequence[str]
    letter: Letter
    name: str = ""
    from_header: bool = False
    notify: str = ""
    ret: str = ""
    envid: str = ""
    body: str = ""


class Taken(NamedTuple):
    """It is kmqd's. text: its word, with the queue ID."""

    text: str


class Refused(NamedTuple):
    """It is not, and trying again does not help. address: the recipient, "" when it is about the whole message."""

    reply: Reply
    address: str = ""


class NotNow(NamedTuple):
    """It is not, yet; why, as a sentence. unsure: it may be all the same, since kmqd broke off before its word."""

    text: str
    unsure: bool = False


class Lost(Exception):
    """kmqd is not there, or says something that is no SMTP; the text says what."""


Outcome = Taken | Refused | NotNow
Watch = Callable[[str], None]


def hand_over(order: Order, find: Callable[[], Iterable[str]], watch: Watch = lambda line: None) -> Outcome:
    """Has kmqd take a message. find: the paths at which it may listen, asked anew each time; watch: hears all lines."""
    deadline = time.monotonic() + PATIENCE
    pause = _FIRST_PAUSE
    unsure = False
    while True:
        outcome = _try(order, find, deadline, watch)
        if not isinstance(outcome, NotNow):
            return outcome
        unsure = unsure or outcome.unsure
        left = deadline - time.monotonic()
        if left <= 0:
            return NotNow(outcome.text, unsure)
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _try(order: Order, find: Callable[[], Iterable[str]], deadline: float, watch: Watch) -> Outcome:
    talk = None
    try:
        with connect(find(), deadline) as connection:
            talk = Talk(connection, watch)
            return talk.send(order)
    except TimeoutError:
        return NotNow("kmqd does not answer", talk is not None and talk.all_said)
    except (OSError, Lost) as error:
        return NotNow(str(error), talk is not None and talk.all_said)


def connect(paths: Iterable[str], deadline: float) -> socket.socket:
    """A connection to the first path at which somebody listens; OSError or Lost when there is none."""
    seen: list[str] = []
    for path in paths:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(max(0.1, deadline - time.monotonic()))
        try:
            _connect(connection, path)
            return connection
        except BlockingIOError:
            connection.close()
            raise Lost(f"kmqd has no time for more clients ({path})") from None
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            seen.append(path)
        except PermissionError:
            connection.close()
            raise Lost(f"this user may not reach {path}: the folders above it are closed to him") from None
        except BaseException:
            connection.close()
            raise
    raise Lost(f"kmqd does not run (nobody listens on {' or '.join(seen)})")


def _connect(connection: socket.socket, path: str) -> None:
    """A path too long for a socket's address is reached through a descriptor of its folder."""
    if len(os.fsencode(path)) <= _ADDRESS:
        return connection.connect(path)
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return connection.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    finally:
        os.close(folder)


class Talk:
    """A conversation with kmqd. all_said: it has the whole message, and may have taken it."""

    def __init__(self, connection: socket.socket, watch: Watch) -> None:
        self._connection = connection
        self._heard = connection.makefile("rb")
        self._watch = watch
        self.all_said = False

    def open(self) -> Reply:
        """Greeting and EHLO; the first reply that is no 2xx, or that of EHLO."""
        greeting = self.hear()
        return greeting if greeting.code >= 300 else self.ask("EHLO localhost")

    def ask(self, line: str) -> Reply:
        """One command, one reply."""
        self._say(line)
        return self.hear()

    def send(self, order: Order) -> Outcome:
        """The whole transaction."""
        opened = self.open()
        if opened.code >= 300:
            return _outcome(opened)
        reply = self.ask(_mail(order))
        if reply.code >= 300:
            return _outcome(reply)
        for address, reply in self._name(order):
            if reply.code >= 300:
                return _outcome(reply, address)
        return self._content(order.letter)

    def _name(self, order: Order) -> Iterator[tuple[str, Reply]]:
        notify = f" NOTIFY={order.notify}" if order.notify else ""
        for first in range(0, len(order.recipients), _TOGETHER):
            some = order.recipients[first : first + _TOGETHER]
            self._say("\r\n".join(f"RCPT TO:<{one}>{notify}" for one in some))
            for one in some:
                yield one, self.hear()

    def _content(self, letter: Letter) -> Outcome:
        """BDAT says how long it is: what is cut off by anything is never taken for the whole."""
        self._connection.settimeout(ANSWER)
        self._say(f"BDAT {letter.size} LAST")
        for piece in letter.pieces():
            self._connection.sendall(piece)
        self.all_said = True
        reply = self.hear()
        self.all_said = False
        if reply.code == 250:
            self._connection.sendall(b"QUIT\r\n")
        return _outcome(reply)

    def _say(self, lines: str) -> None:
        self._watch(f"> {lines}")
        self._connection.sendall(lines.encode("utf-8", "surrogateescape") + b"\r\n")

    def hear(self) -> Reply:
        """One whole reply; Lost when there is none."""
        texts: list[str] = []
        room = _REPLY_LIMIT
        while room > 0:
            line = self._heard.readline(room)
            room -= len(line)
            if not line.endswith(b"\n"):
                raise Lost("kmqd broke off the conversation")
            text = line.decode("ascii", "replace").rstrip()
            self._watch(f"< {text}")
            texts.append(text[4:])
            if text[3:4] != "-":
                break
        if not text[:3].isdecimal():
            raise Lost("what listens there does not speak SMTP")
        return Reply(int(text[:3]), " ".join(texts))


def _outcome(reply: Reply, address: str = "") -> Outcome:
    if reply.code < 300:
        return Taken(reply.text)
    if reply.code < 500 and reply.enhanced != "4.5.3":  # too many recipients are too many at the next try, too
        return NotNow(f"kmqd says {reply.code} {reply.text}")
    return Refused(reply, address)


def _mail(order: Order) -> str:
    words = [f"MAIL FROM:<{order.sender}>", f"SIZE={order.letter.size}"]
    if order.body or order.letter.eight_bit:
        words.append(f"BODY={order.body or '8BITMIME'}")
    if not all(map(str.isascii, (order.sender, *order.recipients))):
        words.append("SMTPUTF8")
    if order.ret:
        words.append(f"RET={order.ret}")
    if order.envid:
        words.append(f"ENVID={xtext(order.envid.encode())}")
    if order.name:
        words.append(f"XNAME={xtext(order.name.encode('utf-8', 'replace'))}")
    if order.from_header:
        words.append("XBCC=REMOVE")
    return " ".join(words)


def xtext(octets: bytes) -> str:
    """RFC 3461 4."""
    return "".join(chr(one) if 33 <= one < 127 and one not in b"+=" else f"+{one:02X}" for one in octets)
