"""The log: one line per event, written by each process about the mail that it has in hand.

Shape:    `2026-11-22T05:50:11.123Z receiver-1[4242]: checkpoint generation=7 ms=12`
          Values stand in the order in which they are given. What happens to mail is told by `kmq.log.mail`, whose words
          and keys never change; it goes to standard error too, or where `mail_log` says.
Promise:  a call costs about two microseconds, never raises and never waits for the reader of the log. No foreign text
          forges a line (kmq.log.text). Lines that cannot be written are counted and mail goes on (kmq.log.lines).
On crash: the last 50 ms of a killed process are not in the log, nor what deliveries came to in the last 75 (they are
          told together, run/telling); envelopes hold what happened to each message.
Callers:  everybody above the model, from any thread.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from kmq.log.lines import Log, Value, named
from kmq.log.outlet import ERROR, WARNING, LogFile, Outlet, Syslog
from kmq.log.text import traced

if TYPE_CHECKING:
    from kmq.config.sections import KmqSection

__all__ = [
    "anew",
    "begin",
    "error",
    "event",
    "flush",
    "gather",
    "lost",
    "mail_lines",
    "reopen",
    "start",
    "traced",
    "warning",
]

STDERR, SYSLOG = "stderr", "syslog"

_log = Log()
_mail = _log
_tracking: Log | None = None
_where = STDERR
_loop: asyncio.AbstractEventLoop | None = None


def start(name: str, level: str = "info", mail_log: str = STDERR) -> None:
    """This process is called `name` from now on; what libraries say through `logging` and `warnings` comes along.

    mail_log: where lines about mail go: `stderr`, `syslog`, or the path of a file. May be called again.
    """
    _log.call(named(name), level)
    _direct(named(name), mail_log)
    logging.root.handlers[:] = [_Bridge()]
    logging.root.setLevel(logging.WARNING)
    logging.captureWarnings(True)


def begin(name: str, section: "KmqSection") -> None:
    """A process of kmqd begins, or goes on by a new configuration: as it says, and with a tracking log."""
    from kmq.log import tracking  # only here: looking programs keep none, and need not load msgspec for it

    global _tracking
    start(name, section.log_level, section.mail_log)
    former, _tracking = _tracking, tracking.begin(tracking.keeping_of(section), section.tracking_subjects)
    if _tracking is not None and _tracking is not former:
        _tracking.on_trouble = _tracking_trouble
        if _loop is not None:
            _tracking.gather(_loop)


def _tracking_trouble(why: OSError) -> None:
    error("the tracking log cannot be written; mail goes on, and the lines are counted", why=why.strerror)


def _all() -> tuple[Log, ...]:
    return (_log, _mail) if _tracking is None else (_log, _mail, _tracking)


def _direct(name: str, where: str) -> None:
    """Lines about mail go there from now on; those that were gathered go where they would have gone."""
    global _mail, _where
    if where == _where:
        if _mail is not _log:
            _mail.call(name, "info")
        return
    former, _where = _mail, where
    if where == STDERR:
        _mail = _log
    else:
        outlet: Outlet = Syslog() if where == SYSLOG else LogFile(where)
        _mail = Log(outlet, name)
        _mail.on_trouble = _mail_trouble
        if _loop is not None:
            _mail.gather(_loop)
    if former is not _log:
        former.close()


def _mail_trouble(why: OSError) -> None:
    error("the mail log cannot be written; mail goes on, and the lines are counted", log=_where, why=why.strerror)


def anew() -> list[int]:
    """This process was forked: what its parent gathered is its parent's to write. -> descriptors to be kept open."""
    global _loop
    _loop = None
    return [fd for one in {*_all()} for fd in one.anew()]


def gather(loop: asyncio.AbstractEventLoop) -> None:
    """From now on lines wait for others up to 50 ms of this loop; call it in the loop's thread."""
    global _loop
    _loop = loop
    for one in _all():
        one.gather(loop)


def mail_lines() -> Log:
    """The log that lines about mail go to."""
    return _mail


def event(what: str, queue_id: str = "", /, **keys: Value) -> None:
    """`event("checkpoint", generation=7)`: something happened to kmq; values that are None are left out."""
    _log.event(what, queue_id, keys)


def warning(text: str, /, **keys: Value) -> None:
    """Something is odd; it was kept or set right, and kmq goes on."""
    _log.trouble(WARNING, text, keys)


def error(text: str, /, **keys: Value) -> None:
    """Something is broken that an operator should look at."""
    _log.trouble(ERROR, text, keys)


def flush() -> None:
    """Writes what is gathered; before a process ends."""
    for one in _all():
        one.flush()


def reopen() -> None:
    """The log's file was renamed (SIGUSR1, after a rotation): the next line goes to the file that has the name now."""
    for one in (_log, _mail):
        one.reopen()


def lost() -> int:
    """How many lines could not be written (reliability: the log's disk is full, its reader gone)."""
    return sum(one.lost for one in {*_all()})


class _Bridge(logging.Handler):
    """What libraries log, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:
            text = str(record.msg)
        accident = record.exc_info[1] if record.exc_info else None
        level = ERROR if record.levelno >= logging.ERROR else WARNING
        _log.trouble(level, text, {"by": record.name, "trace": traced(accident) if accident else None})
