"""Content filtering as an operator sees it: `kmq check`, `kmq doctor`, `kmq poison test`."""

import json

import pytest

from kmq.admin.check_content import examiners
from kmq.admin.verdict import Grade
from kmq.config import load
from kmq.spool.disk import Disk
from kmq.spool.layout import prepare
from tests.cli.conftest import Place
from tests.phases.bombs import TEXT, attachment, in_mail, multipart, overlapping

RULES = "[exe : attachment]\nnames = *.exe\n"


def configured(place: Place, text: str) -> None:
    prepare(Disk(place.spool))
    place.path.write_text(f"{place.path.read_text()}\n{text}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (RULES, "OK     1 attachment rule\n"),
        (RULES + "[com : attachment]\nnames = *.com\n", "OK     2 attachment rules\n"),
        ("[content]\nforward_original = a@b.test\n", "forward_original: there is no section [NAME : attachment]"),
    ],
)
def test_check_tells_of_rules_and_of_copies_that_nobody_gets(place: Place, text: str, told: str) -> None:
    configured(place, text)
    assert told in place.run("check")[1]


def test_doctor_begins_an_examiner(place: Place) -> None:
    configured(place, RULES)
    (found,) = examiners(load(str(place.path)))
    assert found.grade is not Grade.WRONG
    assert list((place.spool / "incoming").iterdir()) == []


def test_doctor_tells_when_none_can_be_begun(place: Place) -> None:
    configured(place, RULES)
    (place.spool / "incoming").rmdir()
    (found,) = examiners(load(str(place.path)))
    assert found.grade is Grade.WRONG
    assert "No such file or directory" in found.what


def test_doctor_begins_none_where_none_is_needed(place: Place) -> None:
    assert list(examiners(load(str(place.path)))) == []


def test_a_trial_tells_what_the_filter_would_do(place: Place) -> None:
    configured(place, RULES)
    blocked = place.bag.lay(body=multipart(TEXT, attachment("evil.exe", b"MZ")))
    bomb = place.bag.lay(body=in_mail(overlapping()))
    said = []
    for name in (blocked, bomb):
        status, out, _ = place.run("--json", "poison", "test", name, "--phase", "content")
        assert status == 0
        said.append(json.loads(out)["Said"])
    line = place.path.read_text().splitlines().index("[exe : attachment]") + 1
    assert said[0] == [
        "parts: 3; attachments and files in archives: 1",
        f"evil.exe would be taken out by the attachment rule exe ({place.path}:{line})",
    ]
    assert said[1][1].startswith("limits: ")
