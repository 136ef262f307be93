"""What the benchmark sees of kmq from outside: its checkpoints and its queue."""

import time

import pytest

from bench.kmq import CONFIGURATION, Kmq, Watch
from kmq.config import load
from kmq.spool import journal
from tests.waiting import until


@pytest.fixture
def watch(tmp_path):
    """A watch over a journal with one segment and one checkpoint."""
    segment(tmp_path, 7, 0)
    checkpoint(tmp_path)
    watch = Watch(tmp_path / "journal")
    watch.start()
    until(watch.looking, "the first look")
    yield watch
    watch.stop()


def segment(folder, generation: int, serial: int) -> None:
    (folder / "journal").mkdir(exist_ok=True)
    (folder / journal.name(generation, serial)).touch()


def checkpoint(folder) -> None:
    """As kmq does it: a new file, renamed over the old one."""
    fresh = folder / "journal/checkpoint.new"
    fresh.write_text("whatever\n")
    fresh.rename(folder / "journal/checkpoint")


def test_a_checkpoint_lasts_from_the_new_generation_to_the_file(watch, tmp_path):
    begin = time.monotonic()
    segment(tmp_path, 8, 0)
    until(watch.busy, "the new generation is seen")
    assert watch.seen() == []
    checkpoint(tmp_path)
    until(watch.seen, "the end is seen")
    (span,) = watch.seen()
    assert begin <= span.begin <= span.end <= time.monotonic()
    assert not watch.busy()


def test_a_second_segment_of_a_generation_is_no_checkpoint(watch, tmp_path):
    segment(tmp_path, 7, 1)
    segment(tmp_path, 8, 0)
    until(watch.busy, "the new generation is seen")
    segment(tmp_path, 8, 1)
    checkpoint(tmp_path)
    until(watch.seen, "the end is seen")
    assert len(watch.seen()) == 1


def test_the_queue_is_counted_by_envelopes(tmp_path):
    folder = tmp_path / "spool/queue/69212-0000"
    folder.mkdir(parents=True)
    (tmp_path / "spool/queue/README.md").touch()
    for name in ("69212ad0-00000001", "69212ad0-00000002"):
        (folder / f"{name}.env").touch()
        (folder / f"{name}.eml").touch()
    assert Kmq(tmp_path, 2525, 2526).waiting() == 2


def test_the_configuration_is_one_that_kmq_takes(tmp_path):
    path = tmp_path / "kmq.conf"
    path.write_text(CONFIGURATION.format(folder=tmp_path, port=2525, hop_port=2526))
    settings = load(str(path))
    assert settings.receivers[0].listen == (("127.0.0.1", 2525),)
    assert settings.connectors[0].hosts == (("127.0.0.1", 2526),)
    assert settings.connectors[0].address_spaces == ("*",)
