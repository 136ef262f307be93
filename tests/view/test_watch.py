"""Pictures that follow each other when something changes, until the reader has seen enough."""

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kmq.spool.bell import Bell
from kmq.spool.processes import read_all
from kmq.spool.status import StatusFile
from kmq.view import watch as watching
from kmq.view.table import Page
from tests.view.screens import Viewer, viewer
from tests.waiting import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "status"


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures in this process follow each other faster."""
    monkeypatch.setattr(watching, "LEAST", 0.05)
    monkeypatch.setattr(watching, "EVERY", 0.1)


class Pictures:
    """Numbered pictures; after the last one the reader presses Ctrl-C."""

    def __init__(self, most: int, then: Callable[[int], None] = lambda _: None) -> None:
        self.count = 0
        self._most = most
        self._then = then

    def __call__(self, _: Page) -> Iterable[str]:
        self.count += 1
        if self.count == self._most:
            os.kill(os.getpid(), signal.SIGINT)
        self._then(self.count)
        return [f"picture {self.count}"]


@contextmanager
def patience(seconds: float = 20) -> Iterator[None]:
    """Whoever waits in vain is woken by Ctrl-C; the test then sees too few pictures."""
    alarm = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    alarm.start()
    try:
        yield
    finally:
        alarm.cancel()


def watch(pictures: Pictures, folder: Path, restless: Callable[[], bool] = watching.still) -> str:
    out = io.StringIO()
    with patience():
        watching.watch(pictures, out, folder, restless)
    return out.getvalue()


# --- the bell --------------------------------------------------------------------------------------------------------


def test_beats_ring_nothing_and_changes_ring(folder: Path) -> None:
    status = StatusFile(folder, "worker", 1)
    status.flush()
    bell = Bell(folder)

    def rings(change: Callable[[], object]) -> bool:
        change()
        status._beaten = -100.0  # its beat is due
        status.flush()
        return bell.rang()

    assert not rings(lambda: None), "a beat"
    assert not rings(lambda: read_all(folder)), "somebody looks"
    slots: list[int] = []
    assert rings(lambda: slots.append(status.begin("69212ad0-00000001", 1, "a@b", "c@d")))
    assert rings(lambda: status.show(slots[0], "mx", 50))
    assert rings(lambda: status.end(slots[0]))
    assert rings(lambda: status.counters.update(accepted=1))
    assert not rings(lambda: status.counters.update(accepted=1)), "the same count"
    assert rings(status.stir)
    status.close()
    assert bell.rang(), "a process that ends"
    bell.close()


def test_a_process_that_is_killed_rings(folder: Path) -> None:
    folder.mkdir()
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        status = StatusFile(folder, "worker", 1)
        status.flush()
        os.write(writer, b"!")
        signal.pause()
    os.read(reader, 1)
    bell = Bell(folder)
    assert not bell.rang()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    until(bell.rang, "the kernel says that its writer is gone")
    bell.close()
    os.close(reader)
    os.close(writer)


# --- when pictures are drawn -----------------------------------------------------------------------------------------


def test_on_a_pipe_pictures_follow_each_other_when_something_changes(folder: Path) -> None:
    status = StatusFile(folder, "scheduler", 1)

    def change(_: int) -> None:
        status.stir()
        status.flush()

    assert watch(Pictures(3, change), folder) == "picture 1\n\npicture 2\n\n"


def test_many_changes_are_one_picture(folder: Path) -> None:
    status = StatusFile(folder, "scheduler", 1)
    ended = threading.Event()

    def changes() -> None:
        while not ended.wait(0.01):
            status.stir()
            status.flush()

    busy = threading.Thread(target=changes)
    busy.start()
    begun = time.monotonic()
    pictures = Pictures(4)
    watch(pictures, folder)
    ended.set()
    busy.join()
    assert pictures.count == 4
    assert time.monotonic() - begun >= 3 * watching.LEAST


def test_what_moves_by_itself_is_drawn_again(folder: Path) -> None:
    StatusFile(folder, "scheduler", 1)
    pictures = Pictures(2)
    watch(pictures, folder, lambda: True)
    assert pictures.count == 2


def test_where_the_kernel_tells_nothing_pictures_come_by_the_clock_and_say_so(folder: Path) -> None:
    made: list[StatusFile] = []

    def first_start(number: int) -> None:
        if number == 2:
            made.append(StatusFile(folder, "scheduler", 1))

    said = watch(Pictures(4, lambda n: first_start(n) if n < 3 else made[0].stir() or made[0].flush()), folder)
    first, second, third, _ = said.split("\n\n")
    assert (
        first
        == f"picture 1\ndrawn again every second: {folder}: the kernel tells nothing of it: No such file or directory"
    )
    assert second.startswith("picture 2\ndrawn again every second")
    assert third == "picture 3", "once there is a folder it rings"


# --- a terminal ------------------------------------------------------------------------------------------------------


SHOW = """
import sys
from pathlib import Path
from kmq.view.watch import watch
watch(lambda page: [f"line {n} of {page.columns}" + "-" * 200 for n in range(100)], sys.stdout, Path(sys.argv[1]))
print("the end")
"""


@pytest.fixture
def shown(folder: Path) -> Iterator[Viewer]:
    status = StatusFile(folder, "scheduler", 1)
    with viewer(["-c", SHOW, str(folder)], columns=40, lines=5) as screen:
        until(lambda: screen.text.count("drawn again") == 1, "the first picture")
        yield screen
    status.close()


def test_each_picture_covers_the_last_and_fits(shown: Viewer) -> None:
    _, first = shown.text.split("\x1b[H")
    lines = first.replace("\x1b[K", "").removesuffix("\x1b[J").split("\r\n")
    assert [line[:12] for line in lines[:4]] == [f"line {n} of 40"[:12] for n in range(4)]
    assert len(lines) == 5
    assert lines[4].endswith("...") and len(lines[4]) == 40
    assert "\x1b[?7l" in shown.text, "what is too long is not wrapped"
    shown.resize(60, 3)
    until(lambda: "line 1 of 60" in shown.text, "the picture in the new size")
    assert "line 2 of 60" not in shown.text


def test_q_ends_it_and_the_terminal_is_as_it_was(shown: Viewer) -> None:
    assert not shown.echoes
    shown.press(b"x")
    until(lambda: shown.text.count("drawn again") == 2, "another key draws it again")
    shown.press(b"q")
    assert shown.ended() == 0
    assert shown.text.endswith("\x1b[?7h\x1b[?25h\x1b[?1049lthe end\r\n")
    assert shown.echoes


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_the_terminal_as_it_was(shown: Viewer, number: signal.Signals, status: int) -> None:
    shown.signal(number)
    assert shown.ended() == status
    assert shown.echoes
    assert "\x1b[?1049l" in shown.text


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(shown: Viewer) -> None:
    shown.signal(signal.SIGTSTP)
    until(lambda: shown.stopped, "it stands still")
    assert shown.echoes
    shown.signal(signal.SIGCONT)
    until(lambda: shown.text.count("drawn again") >= 2 and not shown.echoes, "it draws again")
    shown.press(b"q")
    assert shown.ended() == 0


def test_a_reader_who_goes_away_ends_it(folder: Path) -> None:
    status = StatusFile(folder, "scheduler", 1)
    reader, writer = os.pipe()

    def leaves() -> bool:
        os.close(reader)
        return False

    pictures = Pictures(9)
    with os.fdopen(writer, "w") as out, patience():
        watching.watch(pictures, out, folder, leaves)
    assert pictures.count == 1
    status.close()
