"""Local delivery: who has a mailbox, what his copy looks like."""

import asyncio
import stat
from collections import Counter
from pathlib import Path

import pytest

from kmq.model.envelope import Recipient
from kmq.model.hop import DeliveryType, NextHop
from kmq.phases.addressee import header, place
from kmq.phases.mailbox import Mailbox
from kmq.phases.work import Outcome, Work
from tests.phases.mailboxes import HOP, ID, NAME, TRACE, deliver, files, section, work
from tests.phases.sending import kinds, results

# --- what goes well ---------------------------------------------------------------------------------------------------


def test_a_message_becomes_a_file(tmp_path: Path) -> None:
    (found,) = deliver(section(tmp_path), work("alice@here.test"))
    assert results(found) == {0: ("Delivered", f"250 2.0.0 delivered to alice/new/{NAME}")}
    assert files(tmp_path) == [f"alice/new/{NAME}"]
    path = tmp_path / "alice/new" / NAME
    trace = TRACE % (b"alice@here.test", b"alice@here.test")
    assert path.read_bytes() == trace + b"Subject: x\n\nhello\n.dot\nend\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_nlink == 1
    for folder in ("", "new", "cur", "tmp"):
        assert stat.S_IMODE((tmp_path / "alice" / folder).stat().st_mode) == 0o700


def test_every_recipient_has_a_copy(tmp_path: Path) -> None:
    (found,) = deliver(section(tmp_path), work("alice@here.test", "bob@here.test", "alice+lists@here.test"))
    assert kinds(found) == "DDD"
    host = "mx.here.test"
    assert files(tmp_path) == [f"alice/new/{ID}.0.{host}", f"alice/new/{ID}.2.{host}", f"bob/new/{ID}.1.{host}"]
    assert b"Delivered-To: alice+lists@here.test\n" in (tmp_path / f"alice/new/{ID}.2.{host}").read_bytes()


def test_only_the_recipients_of_the_work_are_served(tmp_path: Path) -> None:
    one = work("alice@here.test", "bob@here.test", "carol@here.test")
    (found,) = deliver(section(tmp_path), Work(one.head, one.body, (1,), HOP, 1))
    assert list(results(found)) == [1]
    assert files(tmp_path) == [f"bob/new/{ID}.1.mx.here.test"]


def test_a_large_message_comes_in_pieces(tmp_path: Path) -> None:
    text = b"Subject: x\r\n\r\n" + b"a line of text\r\n\r\n.\r\n" * 60_000
    (found,) = deliver(section(tmp_path / "mail"), work("alice@here.test", text=text, file=tmp_path / "x.eml"))
    assert kinds(found) == "D"
    written = (tmp_path / "mail/alice/new" / NAME).read_bytes()
    assert written == TRACE % ((b"alice@here.test",) * 2) + text.replace(b"\r\n", b"\n")


@pytest.mark.parametrize("tail", [b"", b"a line of text\r\n" * 30_000])
def test_an_older_return_path_is_replaced(tmp_path: Path, tail: bytes) -> None:
    text = b"Received: x\r\nreturn-path:\r\n <old@x.test>\r\nSubject: x\r\n\r\nReturn-Path: kept\r\n" + tail
    file = tmp_path / "x.eml" if tail else None
    (found,) = deliver(section(tmp_path / "mail"), work("alice@here.test", text=text, file=file))
    assert kinds(found) == "D"
    written = (tmp_path / "mail/alice/new" / NAME).read_bytes()
    trace = TRACE % ((b"alice@here.test",) * 2)
    rest = b"Received: x\nSubject: x\n\nReturn-Path: kept\n" + tail.replace(b"\r\n", b"\n")
    assert written == trace + rest


def test_many_messages_share_the_writers(tmp_path: Path) -> None:
    works = [work(f"u{n % 7}@here.test", id=f"69212ad0-{n:08x}") for n in range(300)]
    found = deliver(section(tmp_path), *works)
    assert Counter(map(kinds, found)) == {"D": 300}
    assert len(files(tmp_path)) == 300


def test_templates_have_a_root(tmp_path: Path) -> None:
    (found,) = deliver(section(tmp_path, template="{domain}/{user}/Maildir"), work("alice@here.test"))
    assert kinds(found) == "D"
    assert files(tmp_path) == [f"here.test/alice/Maildir/new/{NAME}"]
    assert place("/var/mail/{user}/Maildir", "alice", "x") == ("/var/mail", ("alice", "Maildir"))
    assert place("/var/mail/x-{domain}/{user}", "alice", "d") == ("/var/mail", ("x-d", "alice"))


def test_what_stands_on_top() -> None:
    head = work("alice@here.test", sender="").head
    original = Recipient("alice@here.test", orcpt="rfc822;Alice+2BX@elsewhere.test")
    assert header(head, original) == (
        b"Return-Path: <>\nDelivered-To: alice@here.test\nX-Original-To: Alice+X@elsewhere.test\n"
    )
    for evil in ("rfc822;a+0Ab@x.test", "rfc822;a+0D+0ASubject:+20x@y", "rfc822;+ZZ@x", "rfc822;+", "x;y", "rfc822"):
        lines = header(head, Recipient("alice@here.test", orcpt=evil)).split(b"\n")
        assert lines[2:] == [b"X-Original-To: alice@here.test", b""], evil
    alias = Recipient("alice@here.test", orcpt="rfc822;other@x.test", original="office@here.test")
    assert header(head, alias).endswith(b"\nX-Original-To: office@here.test\n")
    edited = work("alice@here.test", sender="a\nX-Evil: 1@b").head
    assert header(edited, Recipient("a\nb@c")) == (
        b"Return-Path: <unknown>\nDelivered-To: unknown\nX-Original-To: unknown\n"
    )


# --- who has a mailbox ------------------------------------------------------------------------------------------------


def test_only_listed_users(tmp_path: Path) -> None:
    (found,) = deliver(section(tmp_path, ("alice",)), work("alice@here.test", "bob@here.test", "PostMaster@here.test"))
    assert kinds(found) == "DFD"
    assert results(found)[1][1].startswith("550 5.1.1")
    assert not (tmp_path / "bob").exists()


def test_only_existing_users(tmp_path: Path) -> None:
    (tmp_path / "alice").mkdir()
    (found,) = deliver(section(tmp_path, "existing"), work("alice@here.test", "bob@here.test", "postmaster"))
    assert kinds(found) == "DFD"
    assert not (tmp_path / "bob").exists()


def test_a_root_that_is_away_makes_nobody_unknown(tmp_path: Path) -> None:
    """A file system that is not mounted must not bounce everybody's mail."""
    (found,) = deliver(section(tmp_path / "mail", "existing"), work("alice@here.test"))
    assert kinds(found) == "d"


EVIL_USERS = [
    '"../alice"@here.test', '".."@here.test', '"."@here.test', '"a/b"@here.test', '"/etc"@here.test', '""@here.test',
    ".hidden@here.test", "a\0b@here.test", "%2e%2e@here.test", '"a\nb"@here.test', "x" * 300 + "@here.test",
    "+tag@here.test", '"..+x"@here.test', "{domain}@here.test", "\udcff@here.test",
]  # fmt: skip


@pytest.mark.parametrize("address", EVIL_USERS)
def test_no_user_leaves_the_root(tmp_path: Path, address: str) -> None:
    root = tmp_path / "deep" / "mail"
    root.mkdir(parents=True)
    (found,) = deliver(section(root), work(address))
    if kinds(found) == "D":
        assert len([path for path in root.iterdir() if path.name[0] != "."]) == 1
    else:
        assert results(found)[0][1].startswith("550 5.1.1")
        assert list(root.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["mail"]


@pytest.mark.parametrize("domain", ["..", ".", "", "a/b", "a\0b"])
def test_no_domain_leaves_the_root(tmp_path: Path, domain: str) -> None:
    one = work("alice@here.test")
    elsewhere = NextHop(DeliveryType.MAILBOX, domain, "local")
    (found,) = deliver(section(tmp_path, template="{domain}/{user}"), Work(one.head, one.body, (0,), elsewhere, 1))
    assert kinds(found) == "F"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", ["", "new", "cur", "tmp"])
def test_links_are_not_followed(tmp_path: Path, link: str) -> None:
    """Row 67: whoever can make a link in a mailbox must not choose where kmq writes."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    mailbox = tmp_path / "mail" / "alice"
    (tmp_path / "mail").mkdir()
    if link:
        mailbox.mkdir()
    (mailbox / link if link else mailbox).symlink_to(elsewhere)
    (found,) = deliver(section(tmp_path / "mail"), work("alice@here.test"))
    ((kind, reply),) = results(found).values()
    assert (kind, reply[:9]) == ("Deferred", "451 4.3.5")
    assert list(elsewhere.iterdir()) == []


def test_a_link_in_place_of_the_file_is_replaced(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "mail/alice/tmp").mkdir(parents=True)
    (tmp_path / "mail/alice/tmp" / NAME).symlink_to(victim)
    (found,) = deliver(section(tmp_path / "mail"), work("alice@here.test"))
    assert kinds(found) == "D"
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "mail/alice/new" / NAME).is_symlink()


def test_a_host_name_is_one_component(tmp_path: Path) -> None:
    async def play() -> None:
        phase = Mailbox({"local": section(tmp_path)}, "a/b:c")
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        phase.deliver(work("alice@here.test"), future.set_result, lambda *_: None)
        assert kinds(await future) == "D"
        await phase.close(1)

    asyncio.run(play())
    assert files(tmp_path) == [f"alice/new/{ID}.0.a\\057b\\072c"]
