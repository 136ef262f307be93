"""What all tests share: marks that look at the machine, skips that are heard, long runs on demand.

Marks:   `root` needs root and a loop device, `postfix` needs smtp-source and smtp-sink, `torture` is a random run that
         `make torture` makes long.
Promise: a skipped test is never silent: the last lines of a run count them and say why, and with KMQ_NO_SKIPS=1 in the
         environment (as `.ci/run` sets it) each is a failure.
"""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests import postfix as debian

ROOT = Path(__file__).resolve().parents[1]
NO_SKIPS = os.environ.get("KMQ_NO_SKIPS", "") not in ("", "0")

NO_POSTFIX = "smtp-source and smtp-sink are not here: `make postfix` fetches them"

_skips: Counter[str] = Counter()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "torture: a random run; `make torture` gives it KMQ_TORTURE seconds")


# --- marks that look at the machine -----------------------------------------------------------------------------------


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what this machine cannot do; the machine is asked once, when the first such test comes."""
    if item.get_closest_marker("root") and (reason := lacks_root()):
        pytest.skip(reason)
    if item.get_closest_marker("postfix") and find_postfix() is None:
        pytest.skip(NO_POSTFIX)


@cache
def lacks_root() -> str:
    """Why no file system can be mounted from an image here; "" when it can."""
    if os.geteuid() != 0:
        return "needs root"
    try:
        free = subprocess.run(["losetup", "--find"], capture_output=True, text=True)
    except FileNotFoundError:
        return "needs losetup (Debian: mount)"
    return "" if free.returncode == 0 else f"needs a loop device: {free.stderr.strip()}"


@cache
def find_postfix() -> debian.Postfix | None:
    return debian.find()


@pytest.fixture(scope="session")
def postfix() -> debian.Postfix:
    """smtp-source and smtp-sink; for tests marked `postfix`."""
    found = find_postfix()
    if found is None:
        pytest.skip(NO_POSTFIX)
    return found


@pytest.fixture(scope="session")
def tree() -> Path:
    """The folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter that runs the tests, for tests that start processes of their own."""
    return sys.executable


@pytest.fixture
def torture_seconds(request: pytest.FixtureRequest) -> float:
    """How long a random run goes on: KMQ_TORTURE seconds, else what `@pytest.mark.torture(seconds=3)` names."""
    mark = request.node.get_closest_marker("torture")
    ordinary = float(mark.kwargs.get("seconds", 3)) if mark else 3.0
    return float(os.environ.get("KMQ_TORTURE") or ordinary)


# --- skips that are heard ---------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    _count(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    _count(report)
    return report


def _count(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Notes a skip (an expected failure is none); with KMQ_NO_SKIPS it fails instead."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    _skips[reason] += 1
    if NO_SKIPS:
        report.outcome = "failed"
        report.longrepr = f"skipped, and KMQ_NO_SKIPS forbids it: {reason}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _skips:
        return
    reasons = "; ".join(f"{count} x {reason}" for reason, count in _skips.most_common())
    terminalreporter.section("skipped", sep="!", red=True, bold=True)
    terminalreporter.write_line(f"SKIPPED {_skips.total()} tests: {reasons}", red=True, bold=True)
