"""The power is cut while mail flows: what was acknowledged is there, and only what was in flight comes twice."""

from pathlib import Path

import pytest

from tests.postfix import Postfix
from tests.torture.cut import POWER
from tests.torture.image import mounted
from tests.torture.run import Plan, run

pytestmark = [pytest.mark.root, pytest.mark.postfix]


def test_nothing_acknowledged_is_lost_with_the_power(tmp_path: Path, postfix: Postfix) -> None:
    with mounted(tmp_path) as image:
        plan = Plan(letters=400, kills=6, seed=11, pace=1.0, choice=POWER, in_flight=10)
        outcome = run(plan, tmp_path / "kmq", postfix, image)
    assert not outcome.wrong, outcome
    assert outcome.verdict.answered > 200, outcome
