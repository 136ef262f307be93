"""`kmq report`: a day's mail, added up from the mail log.

Promise:  looks only, and needs no kmqd. Exit status 0, or 1 when the log has nothing of that time or cannot be read.
Callers:  kmq.cli.kmq.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

from kmq.admin import maillog
from kmq.admin.report import Report
from kmq.cli.call import DONE, REFUSED, USAGE, Call
from kmq.view.report import SHOWN, properties, report

#: Where Debian's syslog daemons put the facility mail.
SYSLOG_FILES = (Path("/var/log/mail.log"), Path("/var/log/maillog"), Path("/var/log/syslog"))


class NoTime(ValueError):
    """What was given for a time is none."""


def run(call: Call) -> int:
    """The verb."""
    try:
        since, until = _span(call)
    except NoTime as error:
        call.warn(str(error))
        return USAGE
    found = Report(since, until).read(maillog.entries(_lines(call, since, until)))
    limit = call.arguments.limit or SHOWN
    queued = _queued(call.settings.kmq.spool)
    if call.json:
        call.tell_objects([properties(found, queued, limit)])
    else:
        call.tell(report(found, queued, call.page, limit))
    if not found.lines:
        call.warn(_nowhere(call))
    return DONE if found.lines else REFUSED


# --- when -------------------------------------------------------------------------------------------------------------


def _span(call: Call) -> tuple[float, float]:
    """(since, until) as Unix times. Without a word about it: today, so far."""
    arguments = call.arguments
    now = time.time()
    if arguments.day:
        if arguments.since or arguments.until:
            raise NoTime("--day says both ends: leave --since and --until out")
        day = _day(arguments.day, now)
        return _midnight(day), _midnight(day + timedelta(days=1))
    until = _moment(arguments.until, now) if arguments.until else now
    since = _moment(arguments.since, now) if arguments.since else _midnight(date.fromtimestamp(until))
    if since >= until:
        raise NoTime("that time ends before it begins")
    return since, until


def _day(text: str, now: float) -> date:
    today = date.fromtimestamp(now)
    words = {"today": today, "yesterday": today - timedelta(days=1)}
    if text in words:
        return words[text]
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        raise NoTime(f"{text[:40]!r} is no day: write 2026-11-22, today, or yesterday")
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise NoTime(f"{text[:40]!r} is no day: {error}") from None


def _moment(text: str, now: float) -> float:
    """A day (its beginning), a time of today, or both; RFC 3339 too."""
    try:
        if re.fullmatch(r"\d\d:\d\d(:\d\d)?", text, re.ASCII):
            return datetime.fromisoformat(f"{date.fromtimestamp(now)} {text}").timestamp()
        if re.match(r"\d{4}-\d\d-\d\d[ T]", text, re.ASCII):
            return datetime.fromisoformat(text).timestamp()
        return _midnight(_day(text, now))
    except (ValueError, OverflowError):
        raise NoTime(f"{text[:40]!r} is no time: write 2026-11-22, '2026-11-22 14:30', or 14:30") from None


def _midnight(day: date) -> float:
    return datetime(day.year, day.month, day.day).timestamp()


# --- where ------------------------------------------------------------------------------------------------------------


def _named(call: Call) -> list[str]:
    """The logs to read: those that were given, else where the configuration sends it."""
    if call.arguments.log:
        return list(call.arguments.log)
    where = call.settings.kmq.mail_log
    if where == "stderr":
        return ["journal"]
    if where == "syslog":
        return [str(path) for path in SYSLOG_FILES if path.exists()][:1] or ["journal"]
    return [where]


def _nowhere(call: Call) -> str:
    if not call.arguments.log and call.settings.kmq.mail_log == "stderr":
        return (
            "the journal has no line of that time: by mail_log = stderr they are wherever kmqd's standard error goes;"
            " let mail_log name a file, or --log the one that they are in"
        )
    return f"the log has no line of that time ({', '.join(_named(call))}); --log says where it is"


def lines_since(call: Call, since: float) -> Iterator[str]:
    """All lines of the logs that were named, or of the configuration's, from some time on."""
    return _lines(call, since, time.time())


def _lines(call: Call, since: float, until: float) -> Iterator[str]:
    for name in _named(call):
        if name == "journal":
            yield from maillog.journal(since, until)
        else:
            yield from _of_file(Path(name), since)


def _of_file(path: Path, since: float) -> Iterable[str]:
    for one in maillog.files_of(path, since):
        yield from maillog.lines_of(one)


def _queued(spool: Path) -> int | None:
    """Messages in the queue now; None when this user may not look."""
    try:
        folders = [one.path for one in os.scandir(spool / "queue") if one.is_dir(follow_symlinks=False)]
        return sum(name.endswith(".env") for folder in folders for name in os.listdir(folder))
    except OSError:
        return None
