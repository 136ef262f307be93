"""The index of a real kmqd: kept up while mail flows, mended when it was lost, never in the way."""

import json
import os
import signal
import smtplib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.admin.circumstances import gather
from kmq.config import load
from kmq.model.frame import Changed
from kmq.run.changes import Changes
from kmq.run.link import Link
from kmq.spool import as_of, index
from kmq.spool.touched import Touched
from tests.fakes import EvilHop
from tests.paging import Page, select
from tests.torture.kmqd import Kmqd
from tests.waiting import free_port, until


@pytest.fixture(scope="module")
def hop() -> Iterator[EvilHop]:
    with EvilHop().threaded() as one:
        yield one


@pytest.fixture(scope="module")
def kmqd(tmp_path_factory: pytest.TempPathFactory, hop: EvilHop) -> Iterator[Kmqd]:
    """far.test takes mail, dead.test is nobody's."""
    one = Kmqd(
        tmp_path_factory.mktemp("k"),
        hops={"far.test": hop.port, "dead.test": free_port()},
        workers=1,
    )
    one.start()
    yield one
    one.close()
    assert one.accidents() == []


def send(kmqd: Kmqd, *to: str, subject: str = "hello") -> None:
    with smtplib.SMTP("127.0.0.1", kmqd.port, timeout=20) as client:
        client.sendmail("a@local.test", to, f"Subject: {subject}\r\nMessage-ID: <{subject}@x>\r\n\r\ntext\r\n")


def look(kmqd: Kmqd, **wish: object) -> Page:
    """As a client looks; it sees what it has done itself."""
    settings = load(str(kmqd.folder / "kmq.conf"))
    around = gather(settings.kmq.hostname, kmqd.spool, settings.kmq.run_directory)
    return select(settings, around, **wish)  # type: ignore[arg-type]


def subjects(kmqd: Kmqd, **wish: object) -> list[str]:
    return [str(row.plain["Subject"]) for row in look(kmqd, **wish).rows]


def kept(kmqd: Kmqd) -> list[str]:
    """What the file itself holds, without a look at the envelopes."""
    try:
        connection = sqlite3.connect(f"file:{index.path_of(kmqd.spool)}?mode=ro", uri=True)
    except sqlite3.Error:
        return []
    try:
        return [subject for (subject,) in connection.execute("SELECT subject FROM message ORDER BY mid")]
    except sqlite3.Error:
        return []
    finally:
        connection.close()


def test_the_index_follows_the_mail(kmqd: Kmqd, hop: EvilHop) -> None:
    until(lambda: as_of.read(kmqd.spool), "the index is whole")
    before = len(hop.messages)
    send(kmqd, "x@dead.test", subject="stays")
    send(kmqd, "y@far.test", subject="goes")
    send(kmqd, "x@dead.test", "y@far.test", subject="both")
    until(lambda: len(hop.messages) == before + 2, "what can be delivered is")
    until(lambda: subjects(kmqd, filter="Status -eq Retry") == ["stays", "both"], "what waits is in the index")
    until(lambda: kept(kmqd) == ["stays", "both"], "and nothing else")
    (row,) = look(kmqd, filter="Subject -eq both").rows
    assert [one["Address"] for one in row.properties["Recipients"]] == ["x@dead.test"]  # type: ignore[attr-defined]
    assert row.plain["InternetMessageId"] == "<both@x>"


def test_what_an_operator_did_is_seen_at_once(kmqd: Kmqd) -> None:
    send(kmqd, "x@dead.test", subject="first")
    until(lambda: "first" in subjects(kmqd), "it waits")
    (row,) = look(kmqd, filter="Subject -eq first").rows
    assert kmqd.call("suspend", row.id, "--reason", "look").returncode == 0
    until(lambda: subjects(kmqd, filter="HeldBy -like *look") == ["first"], "it is held")
    assert kmqd.call("remove", row.id, "--yes").returncode == 0
    until(lambda: "first" not in subjects(kmqd), "it is gone")


def test_a_dead_index_process_is_begun_again_and_compares(kmqd: Kmqd) -> None:
    until(lambda: "stays" in kept(kmqd), "the index is kept")
    os.kill(kmqd.children()["index-1"], signal.SIGSTOP)
    send(kmqd, "x@dead.test", subject="unseen")
    until(lambda: "unseen" in subjects(kmqd), "who looks finds it in the files")
    assert "unseen" not in kept(kmqd)
    kmqd.kill("index-1")
    until(lambda: "unseen" in kept(kmqd), "the next index process finds it")
    until(lambda: as_of.read(kmqd.spool), "and is fresh")


def test_a_new_scheduler_process_is_listened_to(kmqd: Kmqd) -> None:
    until(lambda: as_of.read(kmqd.spool), "the index is whole")
    kmqd.kill("scheduler-1")
    kmqd.ready()
    send(kmqd, "x@dead.test", subject="after")
    until(lambda: "after" in kept(kmqd), "the index follows the new one")


def test_an_index_that_is_thrown_away_or_damaged_is_made_anew(kmqd: Kmqd) -> None:
    send(kmqd, "x@dead.test", subject="again")
    until(lambda: "again" in kept(kmqd), "the index has it")
    expected = sorted(subjects(kmqd))
    kmqd.kill("index-1", signal.SIGSTOP)
    path = index.path_of(kmqd.spool)
    path.write_bytes(os.urandom(50_000))
    for ending in ("-wal", "-shm"):
        Path(f"{path}{ending}").unlink()
    assert sorted(subjects(kmqd)) == expected, "who looks meanwhile sees the files"
    kmqd.kill("index-1")
    until(lambda: sorted(kept(kmqd)) == expected, "a new one is made")


def test_lists_tables_and_sql(kmqd: Kmqd) -> None:
    listed = kmqd.call("mailq", "--filter", "Subject -like 'st*'", "--sort=-Size,Subject")
    assert (listed.returncode, listed.stdout.count("dead.test")) == (0, 1), listed
    line = json.loads(kmqd.call("--json", "mailq", "--limit", "1").stdout)
    assert line["NextHopDomain"].startswith("127.0.0.1:")
    wrong = kmqd.call("mailq", "--filter", "Sise -gt 3")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.splitlines()[:3] == ["kmq: Sise is no property of a message; Size?", "    Sise -gt 3", "    ^"]
    counted = ("sql", "SELECT Status, count(*) AS n FROM messages WHERE Subject = 'stays' GROUP BY 1", "--json")
    waiting = {"Status": "Retry", "n": 1}
    until(lambda: json.loads(kmqd.call(*counted).stdout) == waiting, "it is not just being tried")
    for statement in ("DELETE FROM message", "PRAGMA query_only = 0", "ATTACH 'x' AS y", "SELECT writefile('x', 'y')"):
        refused = kmqd.call("sql", statement)
        assert (refused.returncode, refused.stdout) == (2, ""), statement
    some = ("--json", "queues", "--filter", "MessageCount -gt 0", "--sort=-MessageCount")
    until(lambda: _statuses(kmqd.call(*some).stdout) == ["Retry"], "the queue is not just being tried")


def _statuses(listed: str) -> list[str]:
    return [json.loads(line)["Status"] for line in listed.splitlines()]


def test_the_end_leaves_an_index_that_is_believed(kmqd: Kmqd) -> None:
    expected = subjects(kmqd)
    assert kmqd.stop() == 0
    assert as_of.read(kmqd.spool) == 0
    folder = index.path_of(kmqd.spool).parent
    assert [one.name for one in folder.iterdir()] == [index.FILE]
    found = index.Index.to_read(kmqd.spool)
    assert [numbers for numbers in found.stale() if numbers] == []
    found.connection.close()
    assert subjects(kmqd) == expected, "who looks needs no kmqd"


# --- the scheduler process's word -------------------------------------------------------------------------------------


class Ear(Link):
    """A link that notes what is sent."""

    def __init__(self) -> None:
        super().__init__(lambda *_: None, lambda _: None)
        self.heard: list[tuple[bool, list[int]]] = []

    def send(self, frame: object, raw: bytes = b"") -> bool:
        assert isinstance(frame, Changed)
        self.heard.append(
            (frame.lost, [int.from_bytes(raw[at : at + 8], sys.byteorder) for at in range(0, len(raw), 8)])
        )
        return True


def test_one_word_is_under_way_at_a_time() -> None:
    touched = Touched()
    changes = Changes(touched)
    ear = Ear()
    touched.made(1)
    changes.tell()
    changes.joined(ear)
    assert ear.heard == [(True, [])], "who joins compares all"
    touched.made(3)
    touched.changed(2)
    changes.tell()
    assert len(ear.heard) == 1, "it has not done the first yet"
    changes.heard(ear)
    changes.tell()
    assert ear.heard[1:] == [(False, [2, 3])]
    changes.heard(Ear())
    changes.tell()
    assert len(ear.heard) == 2, "another's answer counts for nothing"
    changes.heard(ear)
    changes.tell()
    assert ear.heard[2:] == [(False, [])], "nothing has changed, and that is told"


def test_an_index_that_is_gone_makes_nothing_grow() -> None:
    touched = Touched()
    changes = Changes(touched)
    ear, other = Ear(), Ear()
    changes.joined(ear)
    changes.ended(other)
    touched.made(1)
    changes.heard(ear)
    changes.tell()
    assert ear.heard[-1] == (False, [1]), "somebody else's end is nothing to it"
    changes.ended(ear)
    touched.made(2)
    changes.tell()
    assert len(ear.heard) == 2
    changes.joined(other)
    changes.heard(other)
    changes.tell()
    assert other.heard == [(True, []), (False, [])]
