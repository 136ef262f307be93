"""What the README tells a new user is there: its links, its make targets, its verbs."""

import re
from pathlib import Path

import pytest

from kmq.cli.kmq import VERBS
from kmq.spool.layout import FOLDERS

TREE = Path(__file__).resolve().parents[1]
README = (TREE / "README.md").read_text()
LINKS = sorted(set(re.findall(r"\]\(([^):]+)\)", README)))


@pytest.mark.parametrize("link", LINKS)
def test_a_link_leads_somewhere(link):
    assert (TREE / link).exists()


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z]+)\b", README))))
def test_make_knows_the_target(target):
    assert re.search(rf"^{target}:", (TREE / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"bin/kmq (?:-c \S+ )?([a-z]+)", README))))
def test_kmq_knows_the_verb(verb):
    assert verb in VERBS


def test_what_the_patterns_look_for_is_found():
    assert "LICENSE" in LINKS
    assert "docs/ARCHITECTURE.md" in LINKS
    assert "bin/kmq mailq" in README
    assert "make run" in README


def test_every_folder_of_the_spool_says_what_it_is_for():
    for name in FOLDERS:
        assert (TREE / "spool" / name / "README.md").read_text().strip(), name
