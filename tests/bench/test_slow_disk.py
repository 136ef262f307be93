"""The disk with slow syncs: a file system is on it, its syncs take their time, and nothing of it is left behind."""

import os
import subprocess
import time

import pytest

from bench import slow_disk, steady

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(slow_disk.missing()), reason=f"needs {slow_disk.missing()}"),
]

SLOW = 0.03


def test_a_sync_takes_its_time_and_a_write_does_not(tmp_path):
    with slow_disk.mounted(tmp_path, SLOW, 64 << 20) as disk:
        assert steady.sync_time(disk) >= 1000 * SLOW
        text = os.urandom(4096)
        with (disk / "file").open("wb", buffering=0) as file:
            file.write(text)
            begun = time.monotonic()
            os.fsync(file.fileno())
            assert time.monotonic() - begun >= 2 * SLOW, "the file system's own log wants a sync as well"
    assert text in (tmp_path / "backing").read_bytes()
    assert not (tmp_path / "disk/file").exists()
    mounts = subprocess.run(["mount"], capture_output=True, text=True).stdout
    devices = subprocess.run(["losetup", "--list"], capture_output=True, text=True).stdout
    assert str(tmp_path) not in mounts + devices


def test_what_fails_inside_leaves_nothing_either(tmp_path):
    with pytest.raises(KeyError), slow_disk.mounted(tmp_path, 0.0, 64 << 20):
        raise KeyError("inside")
    assert str(tmp_path) not in subprocess.run(["mount"], capture_output=True, text=True).stdout
