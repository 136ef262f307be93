"""Attachment rules and the limits of examining in the configuration, and their mistakes with line and remedy."""

import pytest

from kmq.config import Settings, read, show
from kmq.errors import ConfigError

BASE = "[kmq]\nhostname = mx.example.org\n"


def settings(text: str) -> Settings:
    return read(BASE + text, "kmq.conf", "/etc/kmq", "mx")


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as told:
        settings(text)
    return str(told.value)


def test_rules_stand_in_their_order_and_inherit() -> None:
    found = settings(
        "[ours : attachment]\naction = accept\nnames = invoice-*.zip\n"
        "[programs : attachment]\nnames = *.exe, *.SCR\n  *.js\ntypes = Application/X-DOSexec, video/*\n"
        "description = No programs, please.\n"
        "[scripts : programs]\nnames = *.ps1\n"
    ).attachments
    assert [(one.name, one.action, one.names) for one in found] == [
        ("ours", "accept", ("invoice-*.zip",)),
        ("programs", "block", ("*.exe", "*.SCR", "*.js")),
        ("scripts", "block", ("*.ps1",)),
    ]
    assert found[1].types == found[2].types == ("application/x-dosexec", "video/*")
    assert settings("").attachments == ()


def test_what_is_not_said_is_on_the_safe_side() -> None:
    content = settings("").content
    assert (content.unreadable, content.beyond_limits) == ("hold", "hold")
    assert (content.warn_sender, content.forward_original, content.forward_filtered) == (False, "", "")


def test_what_is_shown_gives_the_same_settings() -> None:
    before = settings(
        "[content]\ntime_limit = 20s\nforward_original = Admin@Example.ORG\n[a : attachment]\nnames = *.exe, [.]x\n"
    )
    again = read(show(before), "kmq.conf", "/etc/kmq", "mx")
    assert (again.attachments, again.content) == (before.attachments, before.content)


@pytest.mark.parametrize(
    ("text", "line", "remedy"),
    [
        ("[a : attachment]\n", 3, "it fits nothing: write names = *.exe"),
        ("[a : attachment]\nnames = .exe\n", 4, "write *.exe, or [.]exe"),
        ("[a : attachment]\nnames = folder/x.exe\n", 4, "write x.exe"),
        ("[a : attachment]\nnames = " + "*a" * 11 + "\n", 4, "more than 10 stars"),
        ("[a : attachment]\nnames = " + "a" * 201 + "\n", 4, "at most 200 characters"),
        ("[a : attachment]\ntypes = exe\n", 4, "write application/zip, or video/*"),
        ("[a : attachment]\ntypes = multipart/mixed\n", 4, "a multipart has attachments, and is none"),
        ("[a : attachment]\nnames = *.exe\naction = blok\n", 5, "did you mean 'block'?"),
        ("[a : attachment]\nnames = *.exe\ntipes = x/y\n", 5, "did you mean 'types'?"),
        (
            "[a : attachment]\nnames = *\n[b : attachment]\nnames = *.exe\naction = accept\n",
            7,
            "put this section ahead",
        ),
        ("[content]\nunreadable = drop\n", 4, "accept, hold, reject"),
        ("[content]\nforward_original = admin\n", 4, "write admin@example.org"),
        ("[content]\ntime_limit = 0\n", 4, "at least 1s"),
        ("[content]\narchive_depth = 100\n", 4, "at most 20"),
        ("[x : content]\n", 3, "there is one [content]"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_would_be_right(text: str, line: int, remedy: str) -> None:
    told = complaint(text)
    assert told.startswith(f"kmq.conf:{line}: ")
    assert remedy in told
