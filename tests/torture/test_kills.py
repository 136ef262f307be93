"""kmqd dies in every way, mail flows, and nothing that was promised is broken."""

import asyncio
import shutil
from pathlib import Path
from random import Random

import pytest

from tests.postfix import Postfix
from tests.torture import steps
from tests.torture.hops import world
from tests.torture.kmqd import Kmqd
from tests.torture.ledger import Ledger
from tests.torture.run import Plan, leftovers, run
from tests.torture.senders import Mix, Senders

pytestmark = pytest.mark.postfix


def test_whoever_is_killed_nothing_is_lost(tmp_path: Path, postfix: Postfix) -> None:
    plan = Plan(letters=700, kills=9, seed=4, pace=1.0, receivers=2, strangers=True, in_flight=10)
    outcome = run(plan, tmp_path / "k", postfix)
    assert not outcome.wrong, outcome
    assert outcome.verdict.answered > 500, outcome
    assert len(outcome.blows) > 3, "a run that hurts"


@pytest.mark.parametrize("who", ["scheduler-1", "receiver-1"])
def test_a_death_that_takes_no_results_costs_no_duplicate(who: str, tmp_path: Path, postfix: Postfix) -> None:
    plan = Plan(letters=400, kills=5, seed=7, pace=0.8, choice={who: 1}, in_flight=10)
    outcome = run(plan, tmp_path / "k", postfix)
    assert not outcome.wrong, outcome
    assert outcome.verdict.duplicates == 0
    assert outcome.blows[who] == 5


def test_the_scheduler_process_dies_at_single_steps(tmp_path: Path, postfix: Postfix) -> None:
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    trap, ledger = tmp_path / "trap", Ledger()
    with world(postfix) as around:
        kmqd = Kmqd(tmp_path / "k", around.hops, within={"KMQ_TRAP": str(trap)})
        try:
            kmqd.start()

            async def flow() -> int:
                senders = Senders(kmqd.port, ledger, Mix(Random(2)))
                found = await steps.walk(steps.some(8, Random(2)), kmqd, ledger, senders, trap)
                await senders.done()
                return found["died"]

            died = asyncio.run(flow())
            kmqd.drain()
            around.gather(kmqd, ledger)
            verdict = ledger.judge()
            assert [*verdict.wrong, *leftovers(kmqd)] == []
            assert verdict.duplicates == 0 and verdict.answered > 100 and died > 3
            assert kmqd.stop() == 0
        finally:
            kmqd.close()
