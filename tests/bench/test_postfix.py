"""The other side of the benchmark: Debian's Postfix really runs in a folder of its own, and really delivers."""

import asyncio
import os
import tempfile
from pathlib import Path

import pytest

from bench import cpu, idle, steady
from bench.mta import Ways
from bench.postfix import Postfix
from tests.waiting import free_port

pytestmark = [pytest.mark.postfix, pytest.mark.root]


@pytest.fixture
def folder():
    """A folder that Postfix's own user can come to (pytest keeps its own to itself)."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_loaded_postfix_is_counted_and_drained(postfix, folder):
    run = steady.measure(lambda ways: Postfix(postfix, folder, ways), postfix, 1)
    assert run.messages > len(run.waits)  # the load's and the probes'
    assert len(run.sink_waits) == len(run.waits), "every probe came by its own way"
    assert all(sunk > 0 for sunk in run.sink_waits)
    assert run.memory > 1_000_000
    assert run.rate > 0
    assert {"master", "qmgr", "gone"} <= set(run.cpu)  # of the others each ends after a hundred messages
    assert run.cost > 0
    assert run.unanswered == 0, run
    assert run.waits
    left = [names for name in ("incoming", "active", "deferred") for _, _, names in os.walk(folder / "queue" / name)]
    assert not any(left)


def test_an_idle_postfix_hands_each_message_on(postfix, folder):
    ways = Ways(free_port(), free_port(), free_port())
    mta = Postfix(postfix, folder, ways)
    try:
        mta.start()
        waits = asyncio.run(idle.measure(ways.port, ways.hop, 3))
    finally:
        mta.stop()
    assert len(waits) == 3
    assert all(0 < wait < 30 for wait in waits)
    assert [one.name for one in cpu.tree(mta.pid)] == [], "something is left running"
