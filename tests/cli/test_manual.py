"""kmq(1) tells everything that the parser takes, and nothing else."""

import re
from argparse import ArgumentParser, _SubParsersAction
from pathlib import Path

import pytest

from kmq.cli.parser import VERBS, needed, parser

MANUAL = Path(__file__).resolve().parents[2] / "man" / "kmq.1"


def options_of(one: ArgumentParser) -> set[str]:
    return {name for action in one._actions for name in action.option_strings if name.startswith("--")}


def test_each_verb_and_option_stands_in_the_manual() -> None:
    text = MANUAL.read_text()
    (verbs,) = [action for action in parser()._actions if isinstance(action, _SubParsersAction)]
    everywhere = options_of(parser())
    for name, verb in verbs.choices.items():
        (entry,) = re.findall(rf"^\.It Ic {name}\b(.*)$", text, re.MULTILINE)
        told = {f"--{option}" for option in re.findall(r"Fl -([a-z-]+)", entry)}
        assert told == options_of(verb) - everywhere, name
    assert set(verbs.choices) == set(VERBS)
    assert set(re.findall(r"^\.It Ic ([a-z]+)", text, re.MULTILINE)) == set(VERBS)
    for option in everywhere:
        assert f"Fl -{option.removeprefix('--')}" in text


def test_exit_statuses_stand_in_the_manual() -> None:
    section = MANUAL.read_text().partition(".Sh EXIT STATUS")[2].partition(".Sh")[0]
    assert re.findall(r"^\.It (\d+)$", section, re.MULTILINE) == ["0", "1", "2", "75", "78"]


@pytest.mark.parametrize("words", [["bogus"], ["-c", "mailq", "bogus"], ["-h"], ["-c", "mailq", "-h"]], ids=str)
def test_who_asks_for_help_or_errs_hears_of_all_verbs(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser(needed(words)).parse_args(words)
    assert "resubmit" in "".join(capsys.readouterr())


@pytest.mark.parametrize("words", [["mailq", "--queue", "x"], ["-c", "x", "mailq"], ["--json", "mailq"]], ids=str)
def test_a_command_builds_its_own_verb_alone(words: list[str]) -> None:
    assert needed(words) == ("mailq",)
    assert parser(needed(words)).parse_args(words).verb == "mailq"
