"""Whatever is told is kept, at whichever step the power goes, the process dies, or the disk fails.

Each story of a few messages is led on a disk of memory and ended before every one of its changes, in several ways; then
recovery runs, is itself stopped at its steps, and runs again. The walks do the same at random, for thousands of steps.
"""

import pytest

from tests.spool import stories
from tests.spool.explore import Explorer, empty_spool
from tests.spool.ledger import Ledger
from tests.spool.life import Life, Story
from tests.spool.walks import FAULTS, PEEKS, Walk

ALL = (*stories.STORIES, *stories.FAILURES)
#: The store without a journal promises nothing about a disk that fails.
PLAIN = tuple(story for story in stories.STORIES if story is not stories.dropped_elsewhere)


def name(story: Story) -> str:
    return story.__name__.replace(" ", "-")


@pytest.mark.parametrize("story", ALL, ids=name)
def test_whatever_is_told_is_kept_at_every_step(story: Story) -> None:
    depth = 0.01 if story is stories.generations else 0.06
    explorer = Explorer(story, seeds=3, depth=depth)
    assert explorer.run() == []
    assert explorer.starts > 100, "a story of so few starts shows nothing"


@pytest.mark.parametrize("story", [stories.notice, stories.poison], ids=name)
def test_recovery_may_be_stopped_at_every_step_of_its_own(story: Story) -> None:
    explorer = Explorer(story, seeds=1, depth=1.0, seed=5)
    assert explorer.run() == []
    assert explorer.starts > 2000


def test_the_first_start_may_be_stopped_at_every_step() -> None:
    explorer = Explorer(lambda life: None, seeds=12, depth=0.5, fresh=True)
    assert explorer.run() == []
    assert explorer.steps > 30


@pytest.mark.parametrize("story", PLAIN, ids=name)
def test_the_store_without_a_journal_keeps_its_promise_too(story: Story) -> None:
    depth = 0.01 if story is stories.generations else 0.05
    assert Explorer(story, "files", seeds=2, depth=depth).run() == []


@pytest.mark.parametrize("story", stories.STORIES, ids=name)
def test_both_stores_end_in_the_same_files(story: Story) -> None:
    trees = []
    for kind in ("journal", "files"):
        life = Life(empty_spool(), Ledger(atomic=kind == "journal"), kind)
        story(life)
        life.settle()
        life.turn()
        life.checkpoint()
        assert life.ledger.judge(life.disk) == []
        trees.append(life.disk.tree("queue", "poison", "pickup"))
    assert trees[0] == trees[1]


@pytest.mark.torture(seconds=12)
def test_walks_with_all_faults_mixed(torture_seconds: float) -> None:
    assert walk("journal", tuple(FAULTS), torture_seconds) == []


@pytest.mark.torture(seconds=4)
def test_walks_without_a_journal(torture_seconds: float) -> None:
    assert walk("files", (), torture_seconds) == []


def walk(kind: str, faults: tuple[str, ...], seconds: float) -> list[str]:
    """From the same seeds in every run, about as long as it should take on a machine that has nothing else to do."""
    for seed in range(1, 2 + int(seconds * 4)):
        broken = Walk(seed, kind, faults, PEEKS[seed % len(PEEKS)]).run(1500)
        if broken:
            return broken
    return []
