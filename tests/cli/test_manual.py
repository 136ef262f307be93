"""kmq(1) tells everything that the parser takes, and nothing else."""

import re
from argparse import ArgumentParser, _SubParsersAction
from pathlib import Path

from kmq.cli.parser import VERBS, parser

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
