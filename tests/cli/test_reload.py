"""`kmq reload`: a real kmqd takes a new configuration, or says why not."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.admin.client import Response
from tests.cli.conftest import Place
from tests.torture.kmqd import Kmqd


class Operator:
    """kmq's command line beside a kmqd."""

    def __init__(self, kmqd: Kmqd) -> None:
        self.kmqd = kmqd
        self.path = kmqd.folder / "kmq.conf"

    def reload(self, *words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "kmq.cli.kmq", "-c", str(self.path), *words, "reload"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, done.stderr

    def change(self, before: str, after: str) -> None:
        text = self.path.read_text()
        assert before in text
        self.path.write_text(text.replace(before, after))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    kmqd = Kmqd(tmp_path_factory.mktemp("running"), workers=1)
    try:
        kmqd.start()
        yield Operator(kmqd)
        assert kmqd.accidents() == []
    finally:
        kmqd.close()


@pytest.fixture
def operator(running: Operator) -> Iterator[Operator]:
    """A kmqd that has the configuration as it was, before and after."""
    text = running.path.read_text()
    yield running
    running.path.write_text(text)
    assert running.reload()[0] == 0


def test_what_changed_is_told_when_it_counts(operator: Operator) -> None:
    operator.change("checkpoint_interval = 1s", "checkpoint_interval = 2s")
    status, out, err = operator.reload()
    assert (status, err) == (0, "")
    first, last = out.splitlines()
    assert "checkpoint_interval" in first and first.endswith("now")
    found = re.fullmatch(r"configuration (\d+) counts for all processes; 1 change", last)
    assert found
    status, out, _ = operator.reload()
    assert (status, out) == (0, f"configuration {int(found[1]) + 1} counts for all processes; nothing changed\n")


def test_a_program_reads_objects(operator: Operator) -> None:
    operator.change("checkpoint_interval = 1s", "checkpoint_interval = 2s")
    status, out, _ = operator.reload("--json")
    (line,) = map(json.loads, out.splitlines())
    assert status == 0 and line["Counts"] == "now" and "checkpoint_interval" in line["Option"]


def test_a_mistake_is_told_with_its_line_and_changes_nothing(operator: Operator) -> None:
    operator.change("retry_interval = 500ms", "retry_interval = soon")
    status, out, err = operator.reload()
    assert (status, out) == (78, "")
    assert "kmq.conf:" in err and "retry_interval" in err and "the old configuration stays" in err


def test_what_only_kmqd_can_see_is_told_by_kmqd(operator: Operator) -> None:
    operator.change("[in : receiver]", "[more : receiver]\nlisten = 192.0.2.1:2599\n\n[in : receiver]")
    status, out, err = operator.reload()
    assert status != 0 and out == ""
    assert "192.0.2.1" in err and "the old configuration stays" in err


def test_without_kmqd(place: Place) -> None:
    status, _, err = place.run("reload")
    assert status == 75 and "kmqd does not run" in err


def test_lines_that_say_that_it_goes_on_are_for_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kmq.admin import client
    from kmq.cli.kmq import main

    lines: list[dict[str, object]] = [{"Waiting": 5.0}, {"Warning": "odd"}, {"Option": "[mx] listen", "Counts": "now"}]
    monkeypatch.setattr(client, "ask", lambda *_: Response(0, "done", lines))
    (tmp_path / "kmq.conf").write_text(
        "[kmq]\nhostname = mx.example.org\nspool = spool\n[mx : receiver]\nlisten = *:25\n".replace("*", "0.0.0.0")
    )
    assert main(["-c", str(tmp_path / "kmq.conf"), "reload"]) == 0
    assert capsys.readouterr().out == "warning: odd\n[mx] listen  now\ndone\n"
