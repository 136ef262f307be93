"""The program that looks for somebody who may see the queue and cannot read its files; kmqd's index process begins it.

What:     takes one request (Look) and three descriptors out of a connection, and does what `kmq` would do with these
          words, by the configuration that kmqd itself works by, writing to these descriptors.
Promise:  it runs as kmqd's user for somebody who is not trusted with more than looking. So nothing but looking verbs
          (only_looking), nothing but terminals and pipes to write to, no file that he names, of his environment the
          little that is about his terminal, and no question to kmqd that changes anything (client.only_look).
          Memory, processor time and time are limited; it ends when the client does.
On crash: the index process tells the client.
Callers:  admin.looks. Arguments: the pid of its parent, the connection's descriptor, that of the settings.
"""

import contextlib
import ctypes
import io
import os
import re
import resource
import signal
import socket
import stat
import sys
import threading
import time
from argparse import Namespace

from kmq.admin import client
from kmq.cli.call import Call
from kmq.cli.kmq import carried_out
from kmq.cli.only_looking import objection
from kmq.cli.parser import needed, parser, signed
from kmq.config import Settings
from kmq.model.frame import Answer, BrokenFrame, Look, Reader, encode
from kmq.run.inheritance import read_settings

_USAGE = 2
_PR_SET_PDEATHSIG = 1

#: Bytes of a request, and seconds until it is whole.
_LONGEST = 128 * 1024
_PATIENCE = 5.0

#: Bytes of memory; seconds of processor time and of time, but for a picture that is drawn again (--watch).
MEMORY = 1 << 30
WORK, TIME = 120, 3600

#: Seconds that the verb has when the client is gone.
_GRACE = 1.0

#: What of the client's environment counts, and how it may look. A time zone is a name or a rule, never a path.
_ENVIRONMENT = {
    "TERM": re.compile(r"[A-Za-z0-9_.+-]{1,40}", re.ASCII),
    "NO_COLOR": re.compile(r"[A-Za-z0-9]{1,10}", re.ASCII),
    "TZ": re.compile(r"(?!.*\.\.)[A-Za-z<][A-Za-z0-9_+,./:<>-]{0,99}", re.ASCII),
}

#: Signals that the client passes on.
_PASSED_ON = frozenset({signal.SIGINT, signal.SIGWINCH})


class _Refused(Exception):
    """It is not done; the text says why."""


def main() -> int:
    """The program."""
    parent, connection, settings = map(int, sys.argv[1:])
    _end_with(parent)
    with socket.socket(fileno=connection) as talk:
        try:
            look = _request(talk)
            arguments = _understood(look)
        except _Refused as refused:
            _say(talk, Answer(status=_USAGE, text=str(refused)))
            return _USAGE
        _say(talk, Answer())  # begun
        threading.Thread(target=_listen, args=(talk,), daemon=True).start()
        return _look(arguments, read_settings(settings))


def _say(talk: socket.socket, answer: Answer) -> None:
    with contextlib.suppress(OSError):  # a client that is gone is heard of in a moment
        talk.send(encode(answer))


def _look(arguments: Namespace, settings: Settings) -> int:
    problem = objection(arguments)
    if problem:
        print(f"kmq: {problem}", file=sys.stderr)
        return _USAGE
    _limit(watches=bool(getattr(arguments, "watch", False)))
    client.only_look()
    call = Call(arguments, arguments.json, sys.stdout)
    call.settings = settings
    try:
        return carried_out(call)
    except MemoryError:
        print("kmq: broken off: this takes too much memory", file=sys.stderr)
        return os.EX_SOFTWARE
    except Exception as error:  # a trace is nothing to somebody who cannot mend it
        print(f"kmq: our program failed: {type(error).__name__}: {error}", file=sys.stderr)
        return os.EX_SOFTWARE


def _end_with(parent: int) -> None:
    """This process ends when the one that began it does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)


def _limit(watches: bool) -> None:
    """Nothing that somebody asks for takes more than this machine can spare."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if not watches:
        resource.setrlimit(resource.RLIMIT_CPU, (WORK, WORK + 5))
        signal.alarm(TIME)


# --- the request ------------------------------------------------------------------------------------------------------


def _request(talk: socket.socket) -> Look:
    """What is wanted; its descriptors are ours, in their usual places."""
    talk.settimeout(_PATIENCE)
    frames, descriptors, length = Reader(), list[int](), 0
    try:
        while True:
            text, more, _, _ = socket.recv_fds(talk, 1 << 16, 3, socket.MSG_CMSG_CLOEXEC)
            descriptors += more
            length += len(text)
            if not text or length > _LONGEST or len(descriptors) > 3:
                raise _Refused(f"no request of at most {_LONGEST:,} bytes with three descriptors")
            for frame, _ in frames.feed(text):
                if not isinstance(frame, Look) or len(descriptors) != 3:
                    raise _Refused("this is no request to look at something")
                _take(descriptors)
                return frame
    except (BrokenFrame, OSError) as error:
        raise _Refused(f"this is no request to look at something: {error}") from None
    finally:
        talk.settimeout(None)


def _take(descriptors: list[int]) -> None:
    """Standard input is a terminal or nothing; what is written goes to terminals and pipes, which are nobody's file."""
    for place, fd in enumerate(descriptors):
        terminal = os.isatty(fd)
        if place == 0 and not terminal:
            continue
        if not (terminal or stat.S_ISFIFO(os.fstat(fd).st_mode)):
            raise _Refused("kmqd writes to terminals and pipes alone for somebody else")
        os.dup2(fd, place)
    for fd in descriptors:
        os.close(fd)


def _understood(look: Look) -> Namespace:
    """The words as the parser has them; who is wrong is told where he would be told by `kmq`."""
    for name, form in _ENVIRONMENT.items():
        value = look.environment.get(name, "")
        if form.fullmatch(value):
            os.environ[name] = value
    time.tzset()
    encoding = "utf-8" if look.encoding.lower() in ("utf-8", "utf8") else "ascii"
    sys.stdout, sys.stderr = _stream(1, encoding, os.isatty(1)), _stream(2, encoding, lines=True)
    return parser(needed(look.words)).parse_args(signed(look.words))


def _stream(fd: int, encoding: str, lines: bool) -> io.TextIOWrapper:
    raw = io.FileIO(fd, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=lines)


# --- while it runs ----------------------------------------------------------------------------------------------------


def _listen(talk: socket.socket) -> None:
    """Signals of the client, until it is gone: then this process ends, in order if it can."""
    main_thread = threading.main_thread().ident
    assert main_thread is not None
    try:
        while numbers := talk.recv(64):
            for number in _PASSED_ON.intersection(numbers):
                signal.pthread_kill(main_thread, number)
    except OSError:
        pass
    signal.pthread_kill(main_thread, signal.SIGTERM)
    time.sleep(_GRACE)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
