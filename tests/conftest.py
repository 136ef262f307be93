"""What all tests share: marks that look at the machine, skips that are heard, long runs on demand.

Marks:   `root` needs root and a loop device, `postfix` needs smtp-source and smtp-sink, `torture` is a random run that
         `make torture` makes long.
Promise: a skipped test is never silent: the last lines of a run count them and say why, and with KMQ_NO_SKIPS=1 in the
         environment (as `.ci/run` sets it) each is a failure.
"""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from kmq import log
from tests import postfix as debian

ROOT = Path(__file__).resolve().parents[1]
NO_SKIPS = os.environ.get("KMQ_NO_SKIPS", "") not in ("", "0")

NO_POSTFIX = "smtp-source and smtp-sink are not here: `make postfix` fetches them"

_FORBIDDEN = "skipped, and KMQ_NO_SKIPS forbids it: "
_skips: Counter[str] = Counter()
_uncollected: set[str] = set()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "torture: a random run; `make torture` gives it KMQ_TORTURE seconds")
    _heed_signals()


def _heed_signals() -> None:
    """Under nohup, or behind `&` in a script, signals are ignored, and every program that is begun inherits that. What
    has a handler is back to its default in a program, and ends the tests as little as before."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


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


@pytest.fixture(autouse=True)
def _a_log_that_tells_all() -> None:
    """A program of ours that was run within this process may have told its log to say less (`kmq route`)."""
    log.start("tests")


# --- tests beside each other ------------------------------------------------------------------------------------------


class Together(LoadScopeScheduling):
    """With -n the tests of a file stay in one process, in their order.

    So do all files with tests that mount: a namespace that is made beside a mount keeps it in use.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "disks" if mounts(file) else file


@cache
def mounts(file: str) -> bool:
    return "pytest.mark.root" in (ROOT / file).read_text()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Together:
    return Together(config, log)


# --- skips that are heard ---------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    _forbid(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    _forbid(report)
    return report


def _forbid(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With KMQ_NO_SKIPS a skip (an expected failure is none) fails instead."""
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = _FORBIDDEN + _reason(report)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return reason.removeprefix("Skipped: ")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _count(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.nodeid not in _uncollected:  # with -n each process says so
        _count(report)
    _uncollected.add(report.nodeid)


def _count(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Notes a skip, in the process that shows the last lines."""
    said = str(report.longrepr)
    if report.skipped and not hasattr(report, "wasxfail"):
        _skips[_reason(report)] += 1
    elif report.failed and said.startswith(_FORBIDDEN):
        _skips[said.removeprefix(_FORBIDDEN)] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _skips:
        return
    reasons = "; ".join(f"{count} x {reason}" for reason, count in _skips.most_common())
    terminalreporter.section("skipped", sep="!", red=True, bold=True)
    terminalreporter.write_line(f"SKIPPED {_skips.total()} tests: {reasons}", red=True, bold=True)
