"""One drop directory, one kmqd: the mark says whose it is."""

import threading
from pathlib import Path

from kmq.spool import drop_mark
from kmq.spool.disk import Disk


def spool(tmp_path: Path, name: str) -> Disk:
    (tmp_path / name).mkdir()
    return Disk(tmp_path / name)


def test_a_directory_belongs_to_the_spool_that_came_first(tmp_path: Path) -> None:
    shared, first, second = (spool(tmp_path, name) for name in ("shared", "first", "second"))
    assert drop_mark.occupant(shared, first) == ""
    assert drop_mark.occupant(shared, second) == str(tmp_path / "first")
    assert drop_mark.occupant(shared, first) == "", "and stays its own"
    (tmp_path / "shared/.kmq").unlink()
    assert drop_mark.occupant(shared, second) == ""


def test_a_spool_is_known_again_after_it_moved(tmp_path: Path) -> None:
    shared, first = spool(tmp_path, "shared"), spool(tmp_path, "first")
    assert drop_mark.occupant(shared, first) == ""
    (tmp_path / "first").rename(tmp_path / "moved")
    assert drop_mark.occupant(shared, Disk(tmp_path / "moved")) == ""


def test_of_many_that_come_at_once_one_gets_it(tmp_path: Path) -> None:
    shared = spool(tmp_path, "shared")
    spools = [spool(tmp_path, f"spool-{number}") for number in range(8)]
    answers: list[str] = []
    start = threading.Barrier(len(spools))

    def come(one: Disk) -> None:
        start.wait()
        answers.append(drop_mark.occupant(shared, one))

    threads = [threading.Thread(target=come, args=(one,)) for one in spools]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8 and answers.count("") == 1, answers


def test_a_mark_is_not_read_through_a_link(tmp_path: Path) -> None:
    shared, first = spool(tmp_path, "shared"), spool(tmp_path, "first")
    (tmp_path / "shared/.kmq").symlink_to("/etc/passwd")
    try:
        drop_mark.occupant(shared, first)
    except OSError:
        return
    raise AssertionError("a link is an error")
