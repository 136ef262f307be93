"""[rewrite] as an operator sees it: `kmq route` shows the other address, `kmq check` looks at the files."""

import json
from pathlib import Path

import pytest

from kmq.spool.disk import Disk
from kmq.spool.layout import prepare
from tests.cli.conftest import Place
from tests.waiting import free_port

MORE = "\n[outside : rewrite]\nsenders = file:generic\nrecipients = @old.example @new.example\n"


@pytest.fixture
def rewritten(place: Place) -> Place:
    prepare(Disk(place.spool))
    place.configure(port=free_port())
    place.path.write_text(place.path.read_text() + MORE)
    (place.path.parent / "generic").write_text("# home\nada@example.org ada.l@example.com\n")
    return place


def generic(place: Place) -> Path:
    return place.path.parent / "generic"


def test_route_shows_the_other_addresses(rewritten: Place) -> None:
    status, out, _ = rewritten.run("route", "bob@old.example", "--sender", "ada@example.org")
    assert status == 0
    assert out.splitlines()[-1] == (
        "  rewritten   ada@example.org -> ada.l@example.com, bob@old.example -> bob@new.example"
    )
    _, out, _ = rewritten.run("--json", "route", "bob@far.example", "--sender", "x@example.org")
    assert json.loads(out.splitlines()[-1])["RewrittenAs"] is None
    _, out, _ = rewritten.run("route", "postmaster@example.org", "--sender", "ada@example.org")
    assert "rewritten" not in out, "mail into mailboxes keeps its addresses"


def test_route_says_that_mail_waits_without_the_file(rewritten: Place) -> None:
    generic(rewritten).unlink()
    _, out, _ = rewritten.run("route", "bob@far.example", "--sender", "ada@example.org")
    assert "rewritten   mail waits: 451 4.3.5 [outside] cannot tell which addresses to write: see " in out


def test_check_counts_the_lines_of_a_good_file(rewritten: Place) -> None:
    status, out, _ = rewritten.run("check")
    assert status == 0
    assert f"OK     1 address in {generic(rewritten)}\n" in out


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "[outside] senders: {path}: No such file or directory\n       make it, readable for kmqd's user"),
        (b"a@b\n", "{path}: line 1: 'a@b' is no pattern and replacement: write user@example.lan"),
        (b"a@b c@d\n\xff\n", "[outside] senders: {path}: line 2: byte 0xff is not UTF-8"),
    ],
)
def test_check_tells_what_is_wrong_with_a_file(rewritten: Place, content: bytes | None, told: str) -> None:
    path = generic(rewritten)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    status, out, _ = rewritten.run("check")
    assert status == 78
    assert told.format(path=path) in out
