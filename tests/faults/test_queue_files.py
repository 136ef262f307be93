"""What others do to the files of a real kmqd's spool: it takes no harm, and no mail is lost or comes twice."""

import os
import random
import socket
import subprocess
from pathlib import Path

import pytest

from tests.faults.world import world
from tests.torture.image import mounted
from tests.waiting import until


def litter(folder: Path) -> list[Path]:
    """What has no business in a folder of the queue."""
    made = [
        folder / name for name in (".nfs0123", "69212ad0-00000001.env~", "x" * 255, "a\nb.env", "link.env", "fifo.env")
    ]
    for path in made[:4]:
        path.write_bytes(b"not ours\n")
    made[4].symlink_to("/etc/shadow")
    os.mkfifo(made[5])
    made += [folder / "folder.env", folder / "69212ad0-00000002.env", folder / os.fsdecode(b"\xff.eml")]
    made[6].mkdir()
    made[7].symlink_to("/etc/shadow")
    made[8].write_bytes(b"")
    with socket.socket(socket.AF_UNIX) as door:
        at = os.open(folder, os.O_RDONLY)
        door.bind(f"/proc/self/fd/{at}/socket.env")
        os.close(at)
    return [*made, folder / "socket.env"]


def test_foreign_files_odd_times_and_garbage_in_status_files(tmp_path: Path) -> None:
    """Rows 24, 39 and 40: before a start, and while it runs."""
    with world(tmp_path / "k") as here:
        here.hop.banner = "421 4.3.2 not now"
        assert [here.send()[:3] for _ in range(4)] == ["250"] * 4
        until(lambda: len(here.kmqd.queued()) == 4, "they are files of the queue")
        here.kmqd.kill_all()
        folder = here.kmqd.queued()[0].parent
        made = litter(folder)
        times = [(4e9, 4e9), (0, 0)]
        for number, path in enumerate(here.kmqd.queued()):
            if path not in made:
                os.utime(path, times[number % 2])
        for path in (here.kmqd.spool / "status").iterdir():
            path.write_bytes(random.Random(1).randbytes(5000))
        here.hop.banner = "220 evil.test"
        here.kmqd.start()
        until(lambda: len(here.copies()) == 4, "all are delivered")
        for path in (here.kmqd.spool / "status").glob("worker*"):
            path.write_bytes(b"\0" * 100)
        assert here.send().startswith("250")
        until(lambda: len(here.copies()) == 5, "whatever stands in the status file")
        assert all(os.path.lexists(path) for path in made if path.name[:8] != "69212ad0"), "not ours: left alone"
        assert set(here.copies().values()) == {1} and here.kmqd.accidents() == []


@pytest.mark.root
def test_what_cannot_be_unlinked_is_not_delivered_again(tmp_path: Path) -> None:
    """Row 25: the folder of the queue is immutable when the message is delivered."""
    with mounted(tmp_path) as image, world(tmp_path / "k", spool=image.at / "spool") as here:
        here.hop.banner = "421 4.3.2 not now"
        assert here.send().startswith("250")
        until(here.kmqd.queued, "it is a file of the queue")
        folder = here.kmqd.queued()[0].parent
        subprocess.run(["chattr", "+i", folder], check=True)
        try:
            here.hop.banner = "220 evil.test"
            until(here.copies, "it is delivered")
            until(lambda: "new mail hears 452" in here.kmqd.log, "it is told")
            here.kmqd.kill_all()
            assert here.kmqd.queued()
        finally:
            subprocess.run(["chattr", "-i", folder], check=True)
        here.kmqd.start()
        here.each_once()
