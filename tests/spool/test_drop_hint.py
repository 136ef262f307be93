"""Hints: the kernel's word about files that came in, as far as it has one."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kmq.spool.drop_hint import Hints

Story = Callable[[list[str], list[str]], Awaitable[None]]


def hear(place: Path, story: Story) -> None:
    """Plays a story while hints are heard: names, and what was lost."""

    async def play() -> None:
        names: list[str] = []
        lost: list[str] = []
        hints = Hints(str(place), names.append, lost.append)
        try:
            await story(names, lost)
        finally:
            hints.close()

    asyncio.run(play())


async def comes(what: Callable[[], object], seconds: float = 10) -> None:
    deadline = asyncio.get_running_loop().time() + seconds
    while not what():
        assert asyncio.get_running_loop().time() < deadline, "no hint came"
        await asyncio.sleep(0.002)


def test_closed_after_writing_and_renamed_in_are_hints_and_nothing_else_is(tmp_path: Path) -> None:
    place = tmp_path / "pickup"
    place.mkdir()

    async def story(names: list[str], lost: list[str]) -> None:
        writer = open(place / "slow.eml", "wb")  # noqa: SIM115
        writer.write(b"half")
        writer.flush()
        (tmp_path / "elsewhere").write_bytes(b"x")
        (tmp_path / "elsewhere").rename(place / "in.eml")
        await comes(lambda: "in.eml" in names)
        assert names == ["in.eml"], "a file that is being written is none yet"
        writer.close()
        await comes(lambda: "slow.eml" in names)
        (place / "in.eml").rename(place / "within.eml")
        await comes(lambda: "within.eml" in names)
        (place / "folder").mkdir()
        os.chmod(place / "within.eml", 0o600)
        (place / "within.eml").read_bytes()
        (place / "within.eml").unlink()
        (place / "last.eml").write_bytes(b"")
        await comes(lambda: "last.eml" in names)
        assert names == ["in.eml", "slow.eml", "within.eml", "last.eml"] and lost == []

    hear(place, story)


def test_a_name_that_is_no_text_comes_as_it_is(tmp_path: Path) -> None:
    async def story(names: list[str], lost: list[str]) -> None:
        with open(os.fsencode(tmp_path) + b"/\xff\n.eml", "wb"):
            pass
        await comes(lambda: names)
        assert names == ["\udcff\n.eml"]

    hear(tmp_path, story)


def test_a_directory_that_goes_is_told(tmp_path: Path) -> None:
    place = tmp_path / "pickup"
    place.mkdir()

    async def story(names: list[str], lost: list[str]) -> None:
        place.rmdir()
        await comes(lambda: lost)
        assert "gone" in lost[0]

    hear(place, story)


def test_a_directory_that_is_not_there_is_an_error_and_leaves_no_descriptor(tmp_path: Path) -> None:
    async def story() -> None:
        for _ in range(5):
            with pytest.raises(OSError) as caught:
                Hints(str(tmp_path / "missing"), print, print)
            assert caught.value.errno == errno.ENOENT

    def descriptors() -> int:
        return sum("inotify" in os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _open(fd))

    def _open(fd: str) -> bool:
        return os.path.islink(f"/proc/self/fd/{fd}")

    before = descriptors()
    asyncio.run(story())
    asyncio.run(_settled(lambda: descriptors() == before))


async def _settled(true: Callable[[], bool]) -> None:
    await comes(true)


_LISTENER = """
import asyncio, sys
from kmq.spool.drop_hint import Hints

async def listen():
    lost = asyncio.Event()
    Hints(sys.argv[1], lambda name: None, lambda why: (print(why, flush=True), lost.set()))
    print("ready", flush=True)
    await asyncio.wait_for(lost.wait(), 60)

asyncio.run(listen())
"""


def test_more_files_than_the_kernel_remembers_are_told_of(tmp_path: Path) -> None:
    """Row 43: the listener stands still while more files come than its queue holds."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    command = [sys.executable, "-c", _LISTENER, str(tmp_path)]
    listener = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert listener.stdout is not None
    try:
        assert listener.stdout.readline() == "ready\n"
        listener.send_signal(signal.SIGSTOP)
        for number in range(limit + 2000):
            os.close(os.open(tmp_path / f"{number % 500}.eml", os.O_WRONLY | os.O_CREAT))
        listener.send_signal(signal.SIGCONT)
        assert "lost count" in listener.stdout.readline()
    finally:
        listener.kill()
        listener.wait()
