"""Lines of the mail log read back: from its files, those that were rotated away, or the journal. kmq-log(5)

What:     `entries` makes values of lines; `files_of` finds a log's older files; `journal` asks journalctl.
Promise:  only what stands at the beginning of a line counts: text in a value is never taken for a line of its own. What
          is no line of the mail log is passed over. Memory is that of one line.
On crash: read-only.
Callers:  kmq.cli.report, kmq.cli.restore.
"""

import gzip
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from kmq.errors import KmqError
from kmq.log.mail import WORDS
from kmq.log.text import unshown

#: Characters of a line; a longer one is not ours.
_LONGEST = 64_000


class Entry(NamedTuple):
    """One line. at: Unix time; keys: as kmq.log.mail has them, addresses without their <>."""

    at: float
    process: str
    word: str
    id: str
    keys: dict[str, str]


# Our own file; syslog as RFC 3339 or RFC 3164 write it; journalctl -o short-unix.
_LINE = re.compile(
    r"(?:(?P<rfc>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) (?:\S+ kmq/)?"
    r"|(?P<bsd>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) \S+ kmq/"
    r"|(?P<unix>\d{9,11}(?:\.\d+)?) \S+ (?:kmq/|\S+: ))"
    r"(?P<process>[a-z]+(?:-\d+)?)\[\d+\]: (?P<word>[a-z][a-z-]*)(?: (?P<id>[0-9a-f]{8}-[0-9a-f]{8}))?"
    r"(?P<pairs>(?> [a-z_]+=(?:\"(?>[^\"\\]|\\.)*+\"|[^\"\s]\S*+))*+)\s*",
    re.ASCII,
)
_PAIR = re.compile(r' ([a-z_]+)=("(?>[^"\\]|\\.)*+"|[^"\s]\S*+)', re.ASCII)


def entries(lines: Iterable[str], now: float | None = None) -> Iterator[Entry]:
    """The entries of some lines. now: tells the year where a time has none (by default the present)."""
    clock = _Clock(time.time() if now is None else now)
    for line in lines:
        found = _LINE.fullmatch(line) if len(line) <= _LONGEST else None
        if found is None or found["word"] not in WORDS:
            continue
        at = clock.read(found)
        if at is not None:
            keys = {key: _value(value) for key, value in _PAIR.findall(found["pairs"])}
            yield Entry(at, found["process"], found["word"], found["id"] or "", keys)


def _value(text: str) -> str:
    value = unshown(text)
    return value[1:-1] if value[:1] == "<" and value[-1:] == ">" else value


class _Clock:
    """Reads the times of lines; most are of the same second as the line before."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._text = ""
        self._at: float | None = None

    def read(self, found: re.Match[str]) -> float | None:
        """None for what is no time."""
        text = found["rfc"] or found["bsd"] or found["unix"]
        if text != self._text:
            self._text = text
            try:
                self._at = self._parsed(found, text)
            except (ValueError, OverflowError):
                self._at = None
        return self._at

    def _parsed(self, found: re.Match[str], text: str) -> float:
        if found["unix"]:
            return float(text)
        if found["rfc"]:
            return datetime.fromisoformat(text).timestamp()
        year = time.localtime(self._now).tm_year
        at = _bsd(text, year)
        return at if at <= self._now + 86400 else _bsd(text, year - 1)


def _bsd(text: str, year: int) -> float:
    return time.mktime(time.strptime(f"{year} {text}", "%Y %b %d %H:%M:%S"))


# --- where lines are --------------------------------------------------------------------------------------------------


def files_of(path: Path, since: float) -> list[Path]:
    """The file and those that were rotated away from it (`mail.log.1`, `mail.log.2.gz`, `mail.log-20261122.gz`) as far
    back as `since`, the oldest first. KmqError when there is none.
    """
    rotated = re.compile(re.escape(path.name) + r"(?:[.-][0-9][0-9TZ.-]*)?(?:\.gz)?")
    try:
        there = [one for one in path.parent.iterdir() if rotated.fullmatch(one.name)]
        dated = sorted((one.stat().st_mtime, one) for one in there)
    except OSError as error:
        raise KmqError(f"{path}: {error.strerror}") from None
    if not dated:
        raise KmqError(f"{path}: there is no such log; --log says which one to read")
    return [one for changed, one in dated if changed >= since]


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a file, which may be compressed. KmqError when it cannot be read."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            while line := file.readline(_LONGEST):
                yield line.decode("utf-8", "surrogateescape")
    except (OSError, EOFError) as error:
        raise KmqError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def journal(since: float, until: float, unit: str = "kmq") -> Iterator[str]:
    """What journald has of a unit's lines in this time. KmqError when journalctl cannot be asked."""
    command = ["journalctl", "--quiet", "--no-pager", "--output=short-unix", f"--unit={unit}"]
    command += [f"--since=@{int(since)}", f"--until=@{int(until) + 1}"]
    try:
        asked = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="surrogateescape"
        )
    except OSError as error:
        raise KmqError(f"journalctl: {error.strerror}; --log FILE reads a file instead") from None
    assert asked.stdout is not None and asked.stderr is not None
    with asked:
        yield from asked.stdout
        trouble = asked.stderr.read().strip()
    if asked.returncode:
        raise KmqError(f"journalctl: {trouble or f'exit status {asked.returncode}'}")
