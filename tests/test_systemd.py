"""The unit of systemd: no more of the machine than a mail server needs, and no loop of starts over a wrong file."""

import shutil
import subprocess

import pytest

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze (Debian: systemd)")


def test_the_unit_gives_little_of_the_machine_away(tree):
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager"]
    judged = subprocess.run([*command, tree / "systemd/kmq.service"], capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_a_wrong_configuration_begins_no_loop(tree):
    """RestartPreventExitStatus= counts for the main process alone: a command ahead of it would be repeated for ever."""
    lines = (tree / "systemd/kmq.service").read_text().splitlines()
    assert "RestartPreventExitStatus=78" in lines
    assert not [line for line in lines if line.startswith(("ExecStartPre=", "ExecCondition="))]


def test_the_unit_has_no_mistakes(tree):
    command = ["systemd-analyze", "verify", "--man=no", tree / "systemd/kmq.service"]
    complaints = subprocess.run(command, capture_output=True, text=True).stderr.splitlines()
    assert [line for line in complaints if not line.endswith("No such file or directory")] == []
