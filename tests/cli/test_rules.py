"""`kmq rules`, and what `kmq check` says of rules."""

import io
import json

import pytest

from kmq.model.event import HeaderEdit, Passed
from tests.cli.conftest import Place

RULES = """
[large : rule]
description = what is too much
apply = outgoing
condition =
    size over 100
    subject contains offer
action =
    notify admin@example.org subject "Large: ${subject}"
    reject Too large: ${size}

[either : rule]
match = any
condition =
    envelope recipient is ada@example.org, eve@example.org
    attachment is *.exe
action = hold ${rule}

[off : rule]
enabled = no
condition = all mail
action = discard
"""

LETTER = (
    "From: Bob <bob@far.test>\nTo: ada@example.org, Carl <carl@far.test>\nSubject: =?utf-8?q?An_=C3=B6ffer:_offer?=\n\n"
    + "Dear friend\n" * 10
)


@pytest.fixture
def ruled(place: Place) -> Place:
    place.path.write_text(place.path.read_text() + RULES)
    return place


def test_they_are_listed_in_their_order(ruled: Place) -> None:
    status, out, err = ruled.run("rules")
    assert (status, err) == (0, "")
    line = ruled.path.read_text().splitlines().index("[large : rule]") + 1
    assert out.splitlines()[:8] == [
        f"large ({ruled.path}:{line})",
        "  what is too much",
        "  for   recipients elsewhere",
        "  when  size over 100",
        "  and   subject contains offer",
        '  do    notify admin@example.org subject "Large: ${subject}"',
        "        reject Too large: ${size}",
        "",
    ]
    assert "  or    attachment is *.exe" in out
    assert "off (" in out and "switched off" in out
    _, out, _ = ruled.run("--json", "rules")
    assert [json.loads(line)["Rule"] for line in out.splitlines()] == ["large", "either"]


def test_without_rules_there_is_a_word_about_them(place: Place) -> None:
    assert place.run("rules")[::2] == (
        1,
        "kmq: there are no server rules: a section [NAME : rule] makes one, see kmq-rules(5)\n",
    )


def test_a_file_is_tried(ruled: Place) -> None:
    path = ruled.path.parent / "letter.eml"
    path.write_text(LETTER)
    status, out, err = ruled.run("rules", "test", str(path))
    assert (status, err) == (0, "")
    first, *lines = out.splitlines()
    assert first.startswith("from <bob@far.test> to ada@example.org, carl@far.test, ")
    assert f"large ({ruled.path}:" in lines[1] and lines[1].endswith(" applies to carl@far.test")
    assert lines[2:6] == [
        "  size over 100: yes",
        "  subject contains offer: yes",
        '  -> notify admin@example.org subject "Large: An öffer: offer"',
        "  -> reject Too large: 244",
    ]
    assert lines[7].endswith(" applies to ada@example.org")
    assert lines[8:11] == [
        "  envelope recipient is ada@example.org, eve@example.org: yes",
        "  attachment is *.exe: no",
        "  -> hold either",
    ]


def test_another_envelope_can_be_named(ruled: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(LETTER.encode())))
    status, out, _ = ruled.run(
        "--json", "rules", "test", "-", "--from", "<>", "--to", "eve@example.org", "--to", "x@y.test"
    )
    large, either = map(json.loads, out.splitlines())
    assert (status, large["Recipients"], either["Recipients"]) == (0, ["x@y.test"], ["eve@example.org"])
    assert either["Conditions"][0] == {
        "Condition": "envelope recipient is ada@example.org, eve@example.org",
        "MetBy": 1,
        "Of": 1,
    }
    path = ruled.path.parent / "small.eml"
    path.write_text("Subject: x\n\n")
    status, out, _ = ruled.run("rules", "test", str(path), "--to", "x@y.test")
    assert status == 1 and "-> " not in out, "no rule applies"


def test_a_message_of_the_queue_is_tried_as_it_came_to_the_rules(ruled: Place) -> None:
    """What filters ahead have changed counts; what the rules themselves have changed does not."""
    body = b"Subject: x\r\n\r\n" + b"y" * 200
    spam = Passed(phase="Content filtering", step="spam", headers=(HeaderEdit("set", "Subject", "offer"),))
    rules = Passed(phase="Content filtering", step="rules", headers=(HeaderEdit("set", "Subject", "z"),))
    name = ruled.bag.lay(spam, rules, body=body)
    status, out, _ = ruled.run("--json", "rules", "test", f"Submission\\{name}")
    assert (status, json.loads(out.splitlines()[0])["Actions"][-1]) == (0, "reject Too large: 214")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["test"], "name the message to be tried"),
        (["list", "x"], "a message and its envelope are for kmq rules test"),
        (["test", "69212ad0-0000ffff"], "69212ad0-0000ffff: there is no such message in the queue"),
        (["test", "/nowhere.eml"], "/nowhere.eml: cannot be read: No such file or directory"),
        (["test", "{}/empty.eml"], "it has no recipient in To, Cc or Bcc: name one with --to"),
        (["test", "{}/empty.eml", "--to", "bob"], "'bob' is no mail address"),
        (["test", "{}/empty.eml", "--to", "b@c.test", "--from", "x y"], "'x y' is no mail address"),
    ],
)
def test_mistakes(ruled: Place, words: list[str], said: str) -> None:
    (ruled.path.parent / "empty.eml").write_text("\n")
    status, out, err = ruled.run("rules", *(word.format(ruled.path.parent) for word in words))
    assert status in (1, 2) and out == "" and said in err


def test_nothing_of_a_message_reaches_the_terminal(ruled: Place) -> None:
    path = ruled.path.parent / "evil.eml"
    path.write_bytes(b"From: a@b.test\nTo: c@far.test\nSubject: offer \x1b[31m =?utf-8?q?=1B=07?=\n\n" + b"x" * 200)
    status, out, _ = ruled.run("rules", "test", str(path))
    assert status == 0 and "\x1b" not in out and "\x07" not in out


def test_check_tells_of_rules_that_lead_nowhere(ruled: Place) -> None:
    _, out, _ = ruled.run("check")
    assert "admin@example.org" not in out, "its mailbox would be made"
    text = ruled.path.read_text().replace("maildir = mail/{user}\n", "maildir = mail/{user}\nusers = ada\n")
    ruled.path.write_text(
        text + "[all : rule]\ncondition = all mail\naction = stop\n[late : rule]\ncondition = all mail\naction = hold\n"
    )
    _, out, _ = ruled.run("check")
    assert "[large] admin@example.org: " in out and "name somebody who is there" in out
    assert "[late] is never asked: [all] ahead of it ends or stops all mail" in out


def test_check_counts_what_is_in_order(ruled: Place) -> None:
    assert "2 server rules, 1 switched off" in ruled.run("check")[1]
