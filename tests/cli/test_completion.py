"""The shells complete what the table of verbs has; nothing of the queue is ever evaluated."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from kmq.cli.completion import SHELLS
from kmq.cli.parser import VERBS

FOLDER = Path(__file__).resolve().parents[2] / "completion"
IDS = ["69212ad0-00000001", "69212ad0-00000002"]
#: A queue's name that would be run, or expanded, by a careless shell.
EVIL = "$(touch pwned)`touch pwned`.test"

BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_kmq
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a kmq that knows two messages and two queues."""
    program = tmp_path / "bin" / "kmq"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = mailq ] && printf "%s\\n" {" ".join(IDS)}\n'
        "[ \"$2\" = queues ] && cat <<'END'\n"
        '{"Identity":"mx\\\\\\\\x","NextHopDomain":"far.test","Status":"Ready"}\n'
        f'{{"NextHopDomain":"{EVIL}","Status":"Ready"}}\n'
        "END\n"
        "[ \"$1\" = config ] && printf '[isp : connector]\\ntype = x\\n[mx : receiver]\\n[own : connector]\\n'\n"
        "exit 0\n"
    )
    program.chmod(0o755)
    (tmp_path / "some file.log").touch()
    (tmp_path / "folder").mkdir()
    return tmp_path


def completed(place: Path, shell: str, *words: str) -> list[str]:
    """What a shell offers for the last of some words."""
    environment = {**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "HOME": str(place)}
    file = str(FOLDER / SHELLS[shell][0])
    if shell == "bash":
        command = ["bash", "--norc", "-c", BASH, "bash", file, "kmq", *words]
    else:
        line = "kmq " + " ".join(words)
        command = ["fish", "--no-config", "-c", f"source {file}; complete -C '{line}'"]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=30)
    assert done.stderr == "", done.stderr
    assert not (place / "pwned").exists()
    return [line.partition("\t")[0] for line in done.stdout.splitlines() if line]


def shells(*names: str) -> list[ParameterSet]:
    return [
        pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"needs {name} (Debian: {name})"))
        for name in names
    ]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_files_are_as_they_are_printed(shell: str) -> None:
    name, printed = SHELLS[shell]
    assert (FOLDER / name).read_text() == printed(), f"print it anew: python -m kmq.cli.completion {shell}"


@pytest.mark.parametrize("shell", SHELLS)
def test_every_verb_is_there(shell: str) -> None:
    text = (FOLDER / SHELLS[shell][0]).read_text()
    assert all(verb in text for verb in VERBS)


@pytest.mark.parametrize("shell", shells(*SHELLS))
def test_the_shell_reads_it(shell: str) -> None:
    done = subprocess.run([shell, "-n", FOLDER / SHELLS[shell][0]], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", shells("bash", "fish"))
def test_verbs(shell: str, place: Path) -> None:
    assert set(completed(place, shell, "re")) == {verb for verb in VERBS if verb.startswith("re")}


@pytest.mark.parametrize("shell", shells("bash", "fish"))
def test_options_of_a_verb(shell: str, place: Path) -> None:
    found = completed(place, shell, "remove", "--")
    assert {"--queue", "--all", "--what-if", "--reason", "--yes"} <= set(found)
    assert "--repair" not in found


@pytest.mark.parametrize("shell", shells("bash", "fish"))
def test_messages_and_queues(shell: str, place: Path) -> None:
    assert completed(place, shell, "show", "6921") == IDS
    assert completed(place, shell, "retry", "--queue", "fa") == ["far.test"]
    every = completed(place, shell, "retry", "--queue", "''" if shell == "fish" else "")
    assert len(every) == 2, "a name that looks like a command is a name"


@pytest.mark.parametrize("shell", shells("bash", "fish"))
def test_connectors(shell: str, place: Path) -> None:
    nothing = "''" if shell == "fish" else ""
    assert completed(place, shell, "redirect", "--to-connector", nothing) == ["isp", "own"]


def test_bash_completes_files_folders_and_days(place: Path) -> None:
    assert completed(place, "bash", "report", "--log", "so") == ["some file.log"]
    assert completed(place, "bash", "snapshot", "fo") == ["folder"]
    assert completed(place, "bash", "report", "--day", "") == ["today", "yesterday"]
    assert completed(place, "bash", "-c", "so") == ["some file.log"]
    assert completed(place, "bash", "-c", "x.conf", "show", "6921") == IDS
