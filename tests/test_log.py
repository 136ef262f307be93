"""The log: whole lines, no forged ones, and mail goes on whatever becomes of it."""

import asyncio
import fcntl
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from kmq.log.lines import KEEP, Log
from kmq.log.outlet import Descriptor
from kmq.log.text import shown

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ")


class Written:
    """A log into a file, and what stands in it without the times."""

    def __init__(self, path: Path, level: str = "info") -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self.log = Log(Descriptor(self.fd), "receiver-1[42]", level)

    @property
    def lines(self) -> list[str]:
        lines = self.path.read_text().splitlines()
        assert all(TIME.match(line) for line in lines)
        return [TIME.sub("", line) for line in lines]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    one = Written(tmp_path / "log")
    yield one
    os.close(one.fd)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        try:
            os.close(fd)
        except OSError:
            pass


# --- lines ------------------------------------------------------------------------------------------------------------


def test_an_event_is_one_line_with_its_values_in_the_order_given(written: Written) -> None:
    written.log.event(
        "accepted", "69212ad0-0000a1f3", {"sender": "a@example.org", "to": 2, "via": None, "took": 0.01234, "helo": ""}
    )
    written.log.event("stopped", "", {})
    assert written.lines == [
        'receiver-1[42]: accepted 69212ad0-0000a1f3 sender=a@example.org to=2 took=0.012 helo=""',
        "receiver-1[42]: stopped",
    ]


def test_foreign_text_cannot_forge_a_line(written: Written) -> None:
    attack = 'x\x1b[2J\n2026-11-22T05:50:11.123Z receiver-1[42]: accepted forged="1" \\ \x7f\x9b\u202e\u2028'
    written.log.event("greeted", "", {"helo": attack})
    written.log.trouble(40, f"odd: {attack}", {"reply": "250 2.0.0 Ok"})
    greeted, odd = written.lines
    assert greeted == (
        'receiver-1[42]: greeted helo="x\\x1b[2J\\x0a2026-11-22T05:50:11.123Z receiver-1[42]: accepted '
        'forged=\\"1\\" \\\\ \\x7f\\x9b\\u202e\\u2028"'
    )
    assert odd.startswith("receiver-1[42]: error: odd: x\\x1b[2J\\x0a2026")
    assert odd.endswith('reply="250 2.0.0 Ok"')


def unquoted(text: str) -> str:
    """The way back from `shown`, for text without surrogates."""
    if not text.startswith('"'):
        return text
    sign = re.compile(r'\\(?:x(..)|u(....)|U(.{8})|(["\\]))')
    return sign.sub(lambda one: one[4] or chr(int(one[1] or one[2] or one[3], 16)), text[1:-1])


@given(some.text(max_size=300))
@example("with blank")
@example('"')
@example("\\x0a")
@example("é=ü")
def test_every_text_is_shown_on_one_line_and_can_be_told_from_every_other(text: str) -> None:
    visible = shown(text)
    assert visible.isprintable() and visible
    assert visible.startswith('"') or " " not in visible
    assert unquoted(visible) == text or any("\ud800" <= one <= "\udfff" for one in text)


def test_bytes_that_are_no_text_and_endless_values() -> None:
    assert shown(b"caf\xe9".decode("utf-8", "surrogateescape")) == '"caf\\xe9"'
    assert len(shown("a" * 100_000)) < 500
    assert shown("a" * 100_000).endswith('..."')


def test_levels(tmp_path: Path) -> None:
    quiet = Written(tmp_path / "quiet", "warning")
    quiet.log.event("accepted", "", {})
    quiet.log.trouble(30, "odd", {})
    quiet.log.trouble(40, "broken", {})
    assert quiet.lines == ["receiver-1[42]: warning: odd", "receiver-1[42]: error: broken"]


def test_under_journald_lines_bear_their_priority_and_no_time(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = pipe
    found = os.fstat(writing)
    monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
    ours = Log(Descriptor(writing), "worker-1[7]")
    ours.event("delivered", "", {"host": "mx"})
    ours.trouble(30, "odd", {})
    ours.trouble(40, "broken", {})
    assert os.read(reading, 1000).decode().splitlines() == [
        "worker-1[7]: delivered host=mx",
        "<4>worker-1[7]: warning: odd",
        "<3>worker-1[7]: error: broken",
    ]


def test_what_libraries_say_comes_along_on_one_line() -> None:
    says = (
        "import logging, warnings; from kmq import log; log.start('worker-1')\n"
        "log.warning('ours', a=1)\n"
        "logging.getLogger('asyncio').info('not this')\n"
        "warnings.warn('old\\nway')\n"
        "def inner(): raise ValueError('bad\\nbyte')\n"
        "try: inner()\n"
        "except ValueError: logging.getLogger('asyncio').exception('task %s failed', 7)\n"
    )
    done = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, check=True)
    ours, warned, failed = (TIME.sub("", line) for line in done.stderr.splitlines())
    assert re.fullmatch(r"worker-1\[\d+\]: warning: ours a=1", ours)
    assert "warning: " in warned and "old\\x0away" in warned
    assert "error: task 7 failed by=asyncio trace=" in failed
    assert "ValueError: bad\\x0abyte (<string>:5 inner < <string>:6 <module>)" in failed


# --- together ---------------------------------------------------------------------------------------------------------


_FORKED = """
import asyncio, os
from kmq import log
loop = asyncio.new_event_loop()
log.start("parent")
log.gather(loop)
log.event("gathered")
pid = os.fork()
if not pid:
    kept = log.anew()
    for fd in set(range(3, 99)) - set(kept):
        try: os.close(fd)
        except OSError: pass
    log.start("child")
    log.event("here")
    os._exit(0)
os.waitpid(pid, 0)
log.flush()
"""


@pytest.mark.parametrize("pipe", [True, False])
def test_a_forked_process_says_nothing_of_what_its_parent_has_to_say(tmp_path: Path, pipe: bool) -> None:
    with open(tmp_path / "log", "wb") as file:
        stream = subprocess.PIPE if pipe else file
        done = subprocess.run([sys.executable, "-c", _FORKED], stderr=stream, check=True)
    text = done.stderr.decode() if pipe else (tmp_path / "log").read_text()
    assert [re.sub(r"\[\d+\]", "", TIME.sub("", line)) for line in text.splitlines()] == [
        "child: here",
        "parent: gathered",
    ]


def test_what_its_parent_lost_a_forked_process_does_not_count_again() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    log = Log(Descriptor(full), "parent")
    log.event("lost", "", {})
    assert log.lost == 1
    log.anew()
    assert log.lost == 0
    told: list[OSError] = []
    log.on_trouble = told.append
    log.event("lost", "", {})
    assert log.lost == 1 and len(told) == 1, "and it tells of its own trouble"
    os.close(full)


def test_lines_are_gathered_and_trouble_is_written_at_once(written: Written) -> None:
    async def story() -> None:
        written.log.gather(asyncio.get_running_loop())
        written.log.event("first", "", {})
        written.log.event("second", "", {})
        assert written.lines == [], "gathered"
        written.log.trouble(30, "odd", {})
        assert [line.split()[1] for line in written.lines] == ["first", "second", "warning:"], "at once, in order"
        written.log.event("third", "", {})
        while len(written.lines) < 4:
            await asyncio.sleep(0.005)
        for number in range(5000):
            written.log.event("many", "", {"number": number})
        assert len(written.lines) > 1000, "so much is not held back"

    asyncio.run(asyncio.wait_for(story(), 20))


def test_many_threads_lose_and_tear_nothing(written: Written) -> None:
    async def story() -> None:
        written.log.gather(asyncio.get_running_loop())

        def talk(who: int) -> None:
            for number in range(300):
                written.log.event("said", "", {"who": who, "number": number})

        threads = [threading.Thread(target=talk, args=(who,)) for who in range(4)]
        for one in threads:
            one.start()
        while any(one.is_alive() for one in threads):
            written.log.event("said", "", {"who": 9})
            await asyncio.sleep(0)
        written.log.flush()

    sys.setswitchinterval(1e-6)
    try:
        asyncio.run(asyncio.wait_for(story(), 60))
    finally:
        sys.setswitchinterval(0.005)
    said = [line for line in written.lines if "who=9" not in line]
    expected = {f"receiver-1[42]: said who={who} number={number}" for who in range(4) for number in range(300)}
    assert len(said) == 1200
    assert set(said) == expected


# --- a log that cannot be written -------------------------------------------------------------------------------------


def test_a_reader_who_stands_still_stops_nobody_and_hears_what_is_missing(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    ours = Log(Descriptor(writing), "receiver-1[42]")
    said = 0
    while ours.lost < 100:  # it would stand still here for ever, were the pipe's writer to wait
        ours.event("accepted", "", {"number": said, "text": "x" * 300})
        said += 1
    assert said * 400 > KEEP
    os.set_blocking(reading, False)
    text = b""
    while b"could not be written" not in text:
        try:
            text += os.read(reading, 1 << 20)
        except BlockingIOError:
            ours.flush()
    lines = [TIME.sub("", line) for line in text.decode().splitlines()]
    assert lines.pop() == f"receiver-1[42]: warning: {ours.lost} lines of this log could not be written so far"
    assert lines == [f"receiver-1[42]: accepted number={number} text={'x' * 300}" for number in range(len(lines))]
    assert len(lines) + ours.lost == said


def test_a_pipe_that_we_were_given_stays_as_it_is(pipe: tuple[int, int]) -> None:
    _, writing = pipe
    Log(Descriptor(writing)).event("hello", "", {})
    assert not fcntl.fcntl(writing, fcntl.F_GETFL) & os.O_NONBLOCK, "others write to it too, and may want to wait"


def test_processes_that_share_a_pipe_with_a_slow_reader_tear_no_line(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    both = [Log(Descriptor(writing), f"receiver-{number}[42]") for number in (1, 2)]
    os.set_blocking(reading, False)
    text = b""
    for number in range(2000):
        for ours in both:
            ours.event("accepted", "", {"number": number, "text": "x" * (number % 300)})
        if number % 10 == 0:
            text += os.read(reading, 3000)
    while text.count(b"\n") < 4000:
        text += os.read(reading, 1 << 16)
        for ours in both:
            ours.flush()
    whole = re.compile(r"receiver-[12]\[42\]: accepted number=(\d+) text=(x*|\"\")")
    for line in text.decode().splitlines():
        found = whole.fullmatch(TIME.sub("", line))
        assert found and len(found[2].strip('"')) == int(found[1]) % 300, line
    assert [ours.lost for ours in both] == [0, 0]


def test_a_reader_who_is_gone(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    ours = Log(Descriptor(writing))
    ours.event("heard", "", {})
    os.close(reading)
    for _ in range(10):
        ours.event("unheard", "", {})
    assert ours.lost == 10


def test_a_full_disk_is_counted_and_told_when_there_is_room(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    ours = Log(Descriptor(full), "worker-2[9]")
    for _ in range(7):
        ours.event("accepted", "", {})
    assert ours.lost == 7
    room = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(room, full)
    ours.event("accepted", "", {})
    ours.event("accepted", "", {})
    lines = [TIME.sub("", line) for line in (tmp_path / "log").read_text().splitlines()]
    assert lines == [
        "worker-2[9]: accepted",
        "worker-2[9]: warning: 7 lines of this log could not be written so far",
        "worker-2[9]: accepted",
    ]
    assert ours.lost == 7
    os.close(room)
    os.close(full)


def test_a_socket_whose_reader_stands_still() -> None:
    theirs, mine = socket.socketpair()
    with theirs, mine:
        ours = Log(Descriptor(mine.fileno()), "receiver-1[42]")
        said = 0
        while ours.lost < 10:
            ours.event("accepted", "", {"text": "x" * 300})
            said += 1
        theirs.settimeout(20)
        text = b""
        while text.count(b"\n") < said - ours.lost:
            text += theirs.recv(1 << 20)
            ours.flush()
        assert all(line.endswith(b"text=" + b"x" * 300) for line in text.splitlines()[: said - ours.lost])
