"""The power goes between what the other side has said and what is on our disk: one copy too many at the most there, and
none anywhere else.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.world import World, world
from tests.torture.image import Image, mounted
from tests.waiting import until

pytestmark = pytest.mark.root


@contextmanager
def powered(folder: Path) -> Iterator[tuple[World, Image, Path]]:
    """A world on a disk with a plug, and the gate that holds its syncs."""
    gate = folder / "gate"
    with mounted(folder) as image:
        within = {"KMQ_GATE": str(gate), "KMQ_EVIL": "1"}
        with world(folder / "k", spool=image.at / "spool", within=within) as here:
            try:
                yield here, image, gate
            finally:
                gate.unlink(missing_ok=True)
                here.kmqd.close()


def cut(here: World, image: Image) -> None:
    image.cut()
    here.kmqd.kill_all()
    image.unmount()
    image.mount()


def test_delivered_and_written_down_is_not_delivered_again(tmp_path: Path) -> None:
    """Row 56: the journal has it, the files of the queue are all still there."""
    with powered(tmp_path) as (here, image, _):
        here.hop.banner = "421 4.3.2 not now"
        for _ in range(10):
            assert here.send().startswith("250")
        until(lambda: len(here.kmqd.queued()) == 10, "they are files of the queue")
        here.kmqd.kill_all()
        here.kmqd.effects = "1s"
        here.hop.banner = "220 evil.test"
        here.kmqd.start()
        until(lambda: len(re.findall(r": delivered \S+ ", here.kmqd.log)) == 10, "it is durable that all are delivered")
        cut(here, image)
        assert here.kmqd.queued(), "their files are still there"
        here.kmqd.effects = "20ms"
        here.kmqd.start()
        here.each_once()


def routed(here: World) -> int:
    """Messages whose files say where they go."""
    return sum(b'"routed"' in path.read_bytes() for path in here.kmqd.queued())


def test_what_was_not_written_down_comes_once_more(tmp_path: Path) -> None:
    """Row 55: the hop has said 250, the sync of that has not ended. RFC 5321 6.1: rather twice than never."""
    with powered(tmp_path) as (here, image, gate):
        here.hop.banner = "421 4.3.2 not now"
        assert [here.send()[:3] for _ in range(3)] == ["250"] * 3
        until(lambda: here.hop.connections >= 2, "the hop was tried")
        until(lambda: routed(here) == 3, "what the workers said of it is durable")
        gate.touch()
        here.hop.banner = "220 evil.test"
        until(lambda: len(here.copies()) == 3, "the hop has them")
        cut(here, image)
        gate.unlink()
        here.kmqd.start()
        here.kmqd.drain()
        assert sorted(here.copies().values()) == [2, 2, 2]
        assert here.kmqd.accidents() == []


def test_a_crash_that_was_counted_stays_counted(tmp_path: Path) -> None:
    """Row 30: a message that kills its worker is set aside after two deaths alone, a power cut between them or not."""
    with powered(tmp_path) as (here, image, _):
        assert here.send("abort-1@far.test").startswith("250")
        here.tokens.clear()
        until(
            lambda: any(b'"crashed"' in path.read_bytes() for path in here.kmqd.queued()), "one death alone is counted"
        )
        assert not here.kmqd.poison()
        cut(here, image)
        here.kmqd.start()
        until(here.kmqd.poison, "it is set aside", 30)
        ends = here.kmqd.log.count("ended child=worker-1")
        assert ends in (3, 4), "perhaps once when it was shown (J1a), once to be suspected, twice alone"
        assert here.send().startswith("250")
        here.each_once()
