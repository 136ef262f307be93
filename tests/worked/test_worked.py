"""Every worked example of the documents does what it says."""

import re
import time
from pathlib import Path

import pytest

from kmq.cli.parser import VERBS
from tests.worked.reading import Act, Example, acts
from tests.worked.sameness import difference
from tests.worked.scenes import SCENES
from tests.worked.stage import Scene

TREE = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*TREE.glob("docs/*.md"), *TREE.glob("man/*.[1-8]"), TREE / "README.md"])
ACTS = [(path, act) for path in DOCUMENTS for act in acts(path)]


#: Commands that only look: what they show may come true a moment after the command before.
_LOOKS = re.compile(
    r"(ls|cat|head|tail|grep|kmq (--json )?(mailq|queues|sql|show|history|processes|report|expire --what-if))\b"
)
_SETTLING = 10.0


def compared(scene: Scene, example: Example) -> str:
    """ "" when the command shows what the document says, else both."""
    deadline = time.monotonic() + (_SETTLING if _LOOKS.match(example.command) else 0)
    while True:
        said = difference(example.output, scene.run(example.command))
        if not said or time.monotonic() >= deadline:
            return said


@pytest.mark.parametrize(("path", "act"), ACTS, ids=[f"{path.name}:{act.line}-{act.scene}" for path, act in ACTS])
def test_the_commands_show_what_the_document_says(path: Path, act: Act, tmp_path: Path) -> None:
    with SCENES[act.scene](tmp_path) as scene:
        wrong = []
        for example in act.examples:
            said = compared(scene, example)
            if said:
                wrong.append(f"{path.name}:{example.first} $ {example.command}\n{said}")
        assert not wrong, "\n\n".join(wrong)


def test_a_postmasters_questions_are_answered_by_what_is_played() -> None:
    """Forty at least, each with a command, and every verb of kmq among them."""
    text = (TREE / "docs" / "operations.md").read_text()
    questions = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    assert len(questions) >= 40
    assert [one.splitlines()[0] for one in questions if "```console\n$ " not in one] == []
    commands = [example.command for act in acts(TREE / "docs" / "operations.md") for example in act.examples]
    shown = {verb for command in commands for verb in re.findall(r"\bkmq ([a-z]+)", command)}
    assert set(VERBS) <= shown


def test_dots_stand_for_anything() -> None:
    assert not difference(["a ... z", "...", "end"], ["a b c z", "x", "y", "end"])
    assert difference(["a ... z"], ["a b c"])
    assert difference(["a"], ["a", "b"])
    assert not difference(["at 2026-11-22 09:00:00 +0000   [4711]"], ["at 2030-01-01 00:00:00 +0100 [12]"])
