"""The index: what it keeps, how it notices that it is stale, and what it is not believed after."""

import os
import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmq.model import queue_id
from kmq.model.envelope import seal
from kmq.model.event import Routed
from kmq.spool import index, index_rows
from kmq.spool.as_of import AsOf, read
from kmq.spool.index import Index, NoIndex
from kmq.spool.index_rows import header_row, mid_of, number_of
from kmq.spool.touched import LIMIT, Touched
from tests.mailbag import Mailbag

ISP = "SmartHostConnectorDelivery;smtp.isp.example:587;isp"


@pytest.fixture
def bag(tmp_path: Path) -> Mailbag:
    (tmp_path / "spool" / "index").mkdir(parents=True)
    return Mailbag(tmp_path / "spool")


def mend(one: Index) -> int:
    """Brings it up to the files; how many messages it had to look at."""
    count = 0
    for numbers in one.stale():
        one.look_again(numbers)
        count += len(numbers)
    return count


def rows(one: Index) -> list[str]:
    return [queue_id.text(number_of(mid)) for (mid,) in one.connection.execute("SELECT mid FROM message ORDER BY mid")]


def shares(one: Index) -> int:
    return int(one.connection.execute("SELECT count(*) FROM share").fetchone()[0])


# --- what is stale ----------------------------------------------------------------------------------------------------


def test_only_what_differs_is_looked_at_again(bag: Mailbag) -> None:
    names = [bag.lay(Routed(rcpt="0", hop=ISP)) for _ in range(5)]
    one = Index.to_write(bag.spool)
    assert mend(one) == 5
    assert mend(one) == 0
    bag.envelope(names[0]).unlink()
    with open(bag.envelope(names[1]), "ab") as envelope:
        envelope.write(b"\n")
    os.utime(bag.envelope(names[2]), ns=(0, 0))
    new = bag.lay()
    assert mend(one) == 4
    assert rows(one) == sorted([*names[1:], new])
    assert shares(one) == 5
    one.close()


def test_a_message_that_moves_to_poison_and_back_keeps_one_row(bag: Mailbag) -> None:
    name = bag.lay(Routed(rcpt="0", hop=ISP))
    one = Index.to_write(bag.spool)
    mend(one)
    for home, other in (("poison", "queue"), ("queue", "poison")):
        for ending in (".eml", ".env"):
            bag.envelope(name, other).with_suffix(ending).rename(bag.envelope(name, home).with_suffix(ending))
        assert mend(one) == 1
        assert one.connection.execute("SELECT home FROM message").fetchall() == [(home,)]
        assert shares(one) == 1
        assert mend(one) == 0
    one.close()


def test_folders_that_are_gone_and_foreign_names_are_no_trouble(bag: Mailbag) -> None:
    bag.lay()
    one = Index.to_write(bag.spool)
    mend(one)
    (folder,) = (bag.spool / "queue").iterdir()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    (bag.spool / "queue" / "notes").mkdir()
    (bag.spool / "queue" / "zzzzz-zzzz").write_text("a file")
    (bag.spool / "poison" / "69212ad0-00000001.env~").write_text("an editor's")
    (bag.spool / "poison" / "fifo.env").mkdir()
    assert mend(one) == 1
    assert rows(one) == []
    one.close()


def test_a_damaged_envelope_that_is_mended_gets_a_row_of_its_own(bag: Mailbag) -> None:
    name = bag.lay()
    good = bag.envelope(name).read_bytes()
    bag.envelope(name).write_bytes(b"x")
    one = Index.to_write(bag.spool)
    mend(one)
    assert one.connection.execute("SELECT damaged, sender FROM message").fetchall() == [(1, "")]
    bag.envelope(name).write_bytes(good)
    mend(one)
    assert one.connection.execute("SELECT damaged, sender, subject FROM message").fetchall() == [
        (0, "alice@example.org", "hello")
    ]
    bag.envelope(name).write_bytes(b"x")
    mend(one)
    assert one.connection.execute("SELECT damaged FROM message").fetchall() == [(1,)]
    one.close()


def test_a_change_that_fails_half_way_leaves_no_half(bag: Mailbag, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = bag.lay(), bag.lay(Routed(rcpt="0", hop=ISP))
    one = Index.to_write(bag.spool)
    real = index_rows.share_rows

    def fail(found: object) -> object:
        if found.head.id == second:  # type: ignore[attr-defined]
            raise OSError("the disk is full")
        return real(found)  # type: ignore[arg-type]

    monkeypatch.setattr(index_rows, "share_rows", fail)
    with pytest.raises(OSError, match="full"):
        one.look_again([queue_id.parse(first), queue_id.parse(second)])
    assert rows(one) == [] and shares(one) == 0
    monkeypatch.undo()
    assert mend(one) == 2
    one.close()


# --- what is not believed ---------------------------------------------------------------------------------------------


def test_after_a_power_cut_it_is_made_anew(bag: Mailbag, monkeypatch: pytest.MonkeyPatch) -> None:
    bag.lay()
    one = Index.to_write(bag.spool)
    mend(one)
    one.close()
    again = Index.to_write(bag.spool)
    assert rows(again), "the same boot: what was written is there"
    again.close()
    monkeypatch.setattr(index, "boot_id", lambda: "another")
    with pytest.raises(NoIndex, match="not closed"):
        Index.to_read(bag.spool)
    anew = Index.to_write(bag.spool)
    assert rows(anew) == []
    mend(anew)
    anew.close(clean=True)
    monkeypatch.setattr(index, "boot_id", lambda: "a third")
    closed = Index.to_read(bag.spool)
    assert rows(closed), "it was synced when it was closed"
    closed.connection.close()
    begun = Index.to_write(bag.spool)
    assert rows(begun)
    begun.close()
    monkeypatch.setattr(index, "boot_id", lambda: "a fourth")
    with pytest.raises(NoIndex):
        Index.to_read(bag.spool)


@pytest.mark.parametrize("what", ["another version", "another program", "garbage", "a folder beside it"])
def test_what_is_not_ours_is_made_anew(bag: Mailbag, what: str) -> None:
    bag.lay()
    one = Index.to_write(bag.spool)
    mend(one)
    one.close(clean=True)
    path = index.path_of(bag.spool)
    match what:
        case "another version" | "another program":
            name = "user_version" if what == "another version" else "application_id"
            with sqlite3.connect(path) as connection:
                connection.execute(f"PRAGMA {name} = 77")
            connection.close()
        case "garbage":
            path.write_bytes(os.urandom(10_000))
        case _:
            (path.parent / "mine").mkdir()
    if what != "a folder beside it":
        with pytest.raises(NoIndex):
            Index.to_read(bag.spool)
    anew = Index.to_write(bag.spool)
    assert mend(anew) == (0 if what == "a folder beside it" else 1)
    assert len(rows(anew)) == 1
    anew.close()


def test_of_which_moment_it_is(bag: Mailbag) -> None:
    told = AsOf(bag.spool)
    assert read(bag.spool) == 0
    now = time.time()
    told.tell(now)
    assert now - 0.0011 < read(bag.spool) <= now
    path = bag.spool / "index" / "as_of"
    assert path.stat().st_size == 32
    good = path.read_bytes()
    for at in range(len(good.rstrip())):
        path.write_bytes(good[:at])
        assert read(bag.spool) == 0, good[:at]
    told.forget()
    assert not path.exists()
    path.symlink_to("/proc/self/mem")
    assert read(bag.spool) == 0


# --- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "subject"),
    [
        (b"Subject: plain", "plain"),
        (b"SUBJECT :\r\n folded\r\n\tsubject", "folded\tsubject"),
        (b"Subject: =?iso-8859-1?q?gr=FC=DF?= =?utf-8?b?4pyT?=", "grüß✓"),
        (b"Subject: =?x-none?q?a=FFb?=", "a\ufffdb"),
        (b"Subject: =?utf-8?b?!!!!?= yes", "yes"),
        (b"Subject: gr\xc3\xbc\xc3\x9fe \xff", "grüße \ufffd"),
        (b"Subject: " + b"x" * 5000, "x" * 1000),
        (b"no field\r\nSubject: behind the end", ""),
        (b"", ""),
        (None, ""),
    ],
)
def test_a_subject_as_people_read_it(header: bytes | None, subject: str) -> None:
    assert header_row(header).subject == subject


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_whatever_a_header_holds_is_a_row(text: bytes) -> None:
    for header in (
        text,
        b"Subject: " + text,
        b"Subject: =?utf-8?b?" + text + b"?=",
        b"X-MS-Exchange-Organization-SCL:" + text,
    ):
        row = header_row(header)
        assert len(row.subject) <= 1000
        row.subject.encode()


# --- what was touched -------------------------------------------------------------------------------------------------


def test_mail_that_came_and_went_between_two_words_is_not_told() -> None:
    touched = Touched()
    touched.listen(True)
    touched.made(1)
    touched.changed(1)
    touched.left(1)
    touched.changed(2)
    touched.left(3)
    touched.made(4)
    assert touched.drain() == {2, 3, 4}
    touched.left(4)
    assert touched.drain() == {4}, "it was told before"
    assert touched.drain() == set()


def test_a_message_that_goes_and_comes_back_is_told() -> None:
    touched = Touched()
    touched.listen(True)
    touched.made(1)
    touched.left(1)
    touched.made(1)
    assert touched.drain() == {1}


def test_nothing_grows_where_nobody_listens_or_fetches() -> None:
    touched = Touched()
    touched.made(1)
    assert touched.drain() == set()
    touched.listen(True)
    for number in range(LIMIT + 10):
        touched.made(number)
    assert touched.drain() is None, "all is to be compared"
    touched.made(7)
    assert touched.drain() == {7}, "from then on it counts again"
    touched.made(8)
    touched.listen(False)
    touched.made(9)
    touched.listen(True)
    assert touched.drain() == set(), "who joins compares all"


def test_what_no_table_can_hold_is_told_as_damaged(bag: Mailbag) -> None:
    good, name = bag.lay(), bag.lay()
    text = bag.envelope(name).read_bytes()
    inside = b"{" + text[18:].replace(b'"size":', b'"size":1' + b"0" * 30)
    bag.envelope(name).write_bytes(seal(inside))
    one = Index.to_write(bag.spool)
    mend(one)
    assert rows(one) == [good, name]
    assert one.connection.execute("SELECT damaged FROM message ORDER BY mid").fetchall() == [(0,), (1,)]
    assert mend(one) == 0
    one.close()


def test_next_hops_that_nothing_waits_for_go(bag: Mailbag) -> None:
    first, second = (bag.lay(Routed(rcpt="0", hop=f"DnsConnectorDelivery;{one}.test;world")) for one in "ab")
    one = Index.to_write(bag.spool)
    mend(one)
    bag.envelope(first).unlink()
    mend(one)
    one.tidy()
    assert one.connection.execute("SELECT domain FROM hop").fetchall() == [("b.test",)]
    third = bag.lay(Routed(rcpt="0", hop="DnsConnectorDelivery;a.test;world"))
    mend(one)
    found = one.connection.execute(
        "SELECT mid, domain FROM share JOIN hop ON hop.n = share.hop ORDER BY mid"
    ).fetchall()
    assert [(queue_id.text(number_of(mid)), domain) for mid, domain in found] == [(second, "b.test"), (third, "a.test")]
    one.close()


def test_every_id_has_a_number_in_the_order_of_ids() -> None:
    names = ["00000000-00000000", "69212ad0-0000a1f3", "7fffffff-ffffffff", "80000000-00000000", "ffffffff-ffffffff"]
    mids = [mid_of(queue_id.parse(name)) for name in names]
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE t (mid INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO t VALUES (?)", [(mid,) for mid in reversed(mids)])
        found = connection.execute("SELECT mid FROM t ORDER BY mid").fetchall()
    assert [queue_id.text(number_of(mid)) for (mid,) in found] == names


def test_mail_of_a_clock_that_is_far_ahead_and_of_later_decades(bag: Mailbag) -> None:
    now = bag.lay()
    bag._last = queue_id.parse("7fffffff-0000fffe")
    before, behind = bag.lay(), bag.lay()
    bag._last = queue_id.parse("ffffff00-00000000")
    last = bag.lay(home="poison")
    one = Index.to_write(bag.spool)
    mend(one)
    assert rows(one) == [now, before, behind, last]
    bag.envelope(behind).unlink()
    assert [numbers for numbers in one.stale() if numbers] == [[queue_id.parse(behind)]]
    mend(one)
    assert rows(one) == [now, before, last]
    one.close()


@pytest.mark.parametrize("name", ["-1234567-00000001.env", "zzzzzzzz-00000001.env", "69212ad0--0000001.env"])
def test_a_name_that_is_no_id_is_nobody_s_message(bag: Mailbag, name: str) -> None:
    there = bag.lay()
    (bag.folder(there) / name).write_bytes(b"x")
    (bag.spool / "queue" / "-1234-0000").mkdir()
    (bag.spool / "queue" / "stray-zzzz").mkdir()
    one = Index.to_write(bag.spool)
    mend(one)
    assert rows(one) == [there]
    assert not any(one.stale())
    one.close()


@pytest.mark.parametrize("charset", ["raw_unicode_escape?q?=5Cud800", "unicode_escape?q?=5Cudfff", "utf-7?q?+2AA-"])
def test_half_a_sign_in_a_subject_harms_no_message(bag: Mailbag, charset: str) -> None:
    bag.lay(body=b"Subject: =?%b?= end\r\n\r\n" % charset.encode())
    one = Index.to_write(bag.spool)
    mend(one)
    assert one.connection.execute("SELECT damaged, sender, subject FROM message").fetchall() == [
        (0, "alice@example.org", "? end")
    ]
    one.close()
