"""A skipped test proves nothing, so it must be heard, and on the build machine it must fail."""

import os
import subprocess
from pathlib import Path

import pytest

SKIPPING = """
import pytest

def test_that_runs(): assert True

def test_that_skips(): pytest.skip("no such disk")

@pytest.mark.skip(reason="no such disk")
def test_that_is_marked(): assert False

@pytest.mark.xfail(reason="known")
def test_that_is_expected_to_fail(): assert False
"""

NOT_EVEN_COLLECTED = """
import pytest
pytest.importorskip("kmq_has_no_such_module")
def test_never(): assert False
"""


@pytest.fixture
def run(tmp_path: Path, tree: Path, python: str):
    """A pytest run over the two files above with the project's own conftest."""
    (tmp_path / "tests").mkdir()
    for name in ("__init__.py", "conftest.py", "postfix.py", "waiting.py"):
        (tmp_path / "tests" / name).write_text((tree / "tests" / name).read_text())
    (tmp_path / "tests" / "test_skipping.py").write_text(SKIPPING)
    (tmp_path / "tests" / "test_absent.py").write_text(NOT_EVEN_COLLECTED)

    def run(name: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("KMQ_", "PYTEST_"))}
        command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/{name}"]
        return subprocess.run(command, cwd=tmp_path, env={**clean, **environment}, capture_output=True, text=True)

    return run


def test_skips_are_counted_with_their_reasons(run):
    done = run()
    assert done.returncode == 0, done.stdout
    assert "SKIPPED 3 tests: 2 x no such disk; 1 x could not import 'kmq_has_no_such_module'" in done.stdout


def test_on_the_build_machine_a_skip_fails(run):
    done = run("test_skipping.py", KMQ_NO_SKIPS="1")
    assert done.returncode == 1, done.stdout
    assert "1 failed, 1 passed, 1 xfailed, 1 error" in done.stdout
    assert "skipped, and KMQ_NO_SKIPS forbids it: no such disk" in done.stdout
    assert "SKIPPED 2 tests" in done.stdout


def test_on_the_build_machine_a_file_that_cannot_be_imported_fails(run):
    done = run("test_absent.py", KMQ_NO_SKIPS="1")
    assert done.returncode != 0, done.stdout
    assert "1 error" in done.stdout


def test_a_run_without_skips_says_nothing_of_them(run, tmp_path):
    (tmp_path / "tests" / "test_whole.py").write_text("def test_that_runs(): assert True\n")
    done = run("test_whole.py", KMQ_NO_SKIPS="1")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    assert "SKIPPED" not in done.stdout
