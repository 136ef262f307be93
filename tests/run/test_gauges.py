"""What the machine has left, and looks that do not come back."""

import os
import threading
import time
from pathlib import Path

import pytest

from kmq.run import gauges
from kmq.run.gauges import Disk, Figures, Memory, Probe
from kmq.run.pressure import Resource
from tests.waiting import until


def test_a_disk_says_what_is_free_and_how_large_it_is(tmp_path: Path) -> None:
    disk = Disk(str(tmp_path), Resource.SPOOL_SPACE, Resource.SPOOL_INODES)
    found, room = disk.look(), os.statvfs(tmp_path)
    assert found[Resource.SPOOL_SPACE] == pytest.approx(room.f_bavail * room.f_frsize, rel=0.05)
    assert disk.sizes[Resource.SPOOL_SPACE] == room.f_blocks * room.f_frsize
    assert (Resource.SPOOL_INODES in found) == (room.f_files > 0)


def test_memory_is_a_part_of_the_machine_s(tmp_path: Path) -> None:
    memory = Memory()
    found = memory.look()
    assert 0 < found[Resource.OWN_MEMORY] < 100 and 0 < found[Resource.SYSTEM_MEMORY] < 100
    block = bytearray(os.urandom(1 << 20)) * 64
    assert memory.look()[Resource.OWN_MEMORY] > found[Resource.OWN_MEMORY]
    del block


def test_what_the_supervisor_gets_later_is_no_child_s(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {1: 100, 2: 150, 3: 120}
    monkeypatch.setattr(gauges, "_meminfo", lambda: (1000, 500))
    monkeypatch.setattr(gauges, "allowed", lambda: 1000)
    monkeypatch.setattr(gauges, "_family", lambda: list(sizes))
    monkeypatch.setattr(gauges, "_private", lambda pid: sizes[pid])
    memory = Memory()
    assert memory.look()[Resource.OWN_MEMORY] == pytest.approx(17.0)
    sizes[1] = 200  # a reload
    assert memory.look()[Resource.OWN_MEMORY] == pytest.approx(27.0)
    del sizes[3]
    sizes[4] = 210  # who is born now has all of it
    assert memory.look()[Resource.OWN_MEMORY] == pytest.approx(26.0)


def test_memory_that_the_service_manager_allows(tmp_path: Path) -> None:
    inner = tmp_path / "system.slice" / "kmq.service"
    inner.mkdir(parents=True)
    (tmp_path / "cgroup").write_text("1:name=systemd:/x\n0::/system.slice/kmq.service\n")
    (inner / "memory.max").write_text("max\n")
    assert gauges.allowed(str(tmp_path / "cgroup"), str(tmp_path)) == float("inf")
    (inner.parent / "memory.max").write_text("1000\n")
    assert gauges.allowed(str(tmp_path / "cgroup"), str(tmp_path)) == 1000
    (inner / "memory.max").write_text("500\n")
    assert gauges.allowed(str(tmp_path / "cgroup"), str(tmp_path)) == 500
    assert gauges.allowed(str(tmp_path / "none"), str(tmp_path)) == float("inf")


def test_a_disk_that_does_not_answer_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "_LATE", 0.2)
    looked, answers = threading.Event(), threading.Event()

    def look() -> Figures:
        if looked.is_set():
            answers.wait(30)
        looked.set()
        return {Resource.SPOOL_SPACE: 1.0}

    probe = Probe("the disk of /spool", look, 0.01)
    until(lambda: probe.figures(time.monotonic()), "a first answer")
    until(lambda: probe.silent(time.monotonic()), "it hangs")
    assert probe.figures(time.monotonic()) == {}, "what is old is not known"
    answers.set()
    until(lambda: probe.figures(time.monotonic()), "it answers again")
    probe.end()


def test_nobody_looks_while_nobody_asks() -> None:
    looks = []

    def look() -> Figures:
        looks.append(time.monotonic())
        return {Resource.SPOOL_SPACE: 1.0}

    probe = Probe("the disk of /spool", look, 0.001)
    for count in (1, 2, 3):
        until(lambda count=count: len(looks) >= count, "it looks at first, and when it was asked")  # type: ignore[misc]
        assert len(looks) == count
        probe.figures(time.monotonic())
    probe.end()


def test_a_disk_that_is_gone_is_not_known() -> None:
    def look() -> Figures:
        raise OSError(5, "Input/output error")

    probe = Probe("the disk of /spool", look, 0.01)
    until(lambda: not probe.silent(time.monotonic()), "it answers")
    assert probe.figures(time.monotonic()) == {}
    probe.end()
