"""The power goes under the real kmqd: a short form of `python -m tests.torture.cut`."""

import subprocess
from pathlib import Path

import pytest

from tests.postfix import Postfix


@pytest.mark.root
def test_a_power_cut_loses_nothing_that_was_acknowledged(postfix: Postfix, python: str, tree: Path) -> None:
    """In a process of its own, whose mounts end with it."""
    command = [python, "-m", "tests.torture.cut", "--messages", "500", "--cuts", "6", "--seed", "5"]
    ended = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ", 0 violations in" in ended.stdout
    assert "6 blows" in ended.stdout
