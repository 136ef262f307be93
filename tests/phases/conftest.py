"""What the tests of the phases share: both loops, and deadlines that are looked at often."""

from collections.abc import Callable
from typing import Any

import pytest

from kmq.phases import smtp
from tests.phases.sending import LOOPS


@pytest.fixture(params=sorted(LOOPS))
def loop_runner(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Runs a coroutine, with asyncio and then with uvloop."""
    return LOOPS[request.param]


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines are looked at fifty times a second here, so that a test of one does not take one."""
    monkeypatch.setattr(smtp, "SWEEP", 0.02)
