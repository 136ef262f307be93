"""Power cuts on a real file system: before every operation of a spool's life, with all three kinds of loss.

The sweep runs in processes of its own (see tests/spool/powercut.py, which has a full form too: for an hour).
"""

import subprocess

import pytest

pytestmark = pytest.mark.root


def sweep(python: str, *options: str, seconds: float = 280) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "tests.spool.powercut", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds)


#: flag, every how many operations, how many cuts that must be at least. 2: what the file system has not logged is lost;
#: 1: its log is written, data is not; 0: all is written.
KINDS = ((2, 1, 150), (1, 1, 150), (0, 4, 35))


@pytest.mark.parametrize(("flag", "step", "least"), KINDS, ids=["nothing", "log", "all"])
def test_nothing_told_is_lost_at_any_operation(python: str, flag: int, step: int, least: int) -> None:
    done = sweep(python, "--flags", str(flag), "--step", str(step))
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split(" power cuts")[0].rpartition(" ")[2]) >= least, "the sweep ended early"


@pytest.mark.parametrize("rule", ["J1 answer before sync", "J3 no syncfs"])
def test_the_sweep_finds_what_is_wrong(python: str, rule: str) -> None:
    done = sweep(python, "--flags", "2", "--mutant", rule, "--first")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "lost" in done.stdout or "is not what was accepted" in done.stdout


@pytest.mark.torture(seconds=3)
@pytest.mark.timeout(0)
def test_nothing_told_is_lost_in_recovery_either(python: str, torture_seconds: float) -> None:
    done = sweep(python, "--random", str(torture_seconds), seconds=torture_seconds + 60)
    assert done.returncode == 0, done.stdout + done.stderr
