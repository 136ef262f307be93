"""What a selection finds: the same as a look at the files, whatever became of the index; in order, page by page."""

import base64
import itertools
import json
import os
import sqlite3
import time
from pathlib import Path

import pytest

from kmq.admin import selection_source
from kmq.admin.circumstances import Circumstances, QueueState
from kmq.admin.listing import Share, listed
from kmq.admin.selection import Selection, Wish
from kmq.admin.selection_lines import entries, page
from kmq.admin.selection_queues import select_queues
from kmq.admin.selection_rows import latency
from kmq.config import Settings, load
from kmq.errors import FilterError, SpoolError
from kmq.model import moment
from kmq.model.envelope import Recipient, Source, event_line
from kmq.model.event import Deferred, Delivered, Moved, Passed, Removing, Routed, Suspended
from kmq.spool import index
from kmq.spool.index import Index
from kmq.spool.look import walk
from kmq.spool.status import InHand
from tests.mailbag import Mailbag
from tests.paging import select

ISP = "SmartHostConnectorDelivery;smtp.isp.example:587;isp"
FAR = "DnsConnectorDelivery;far.test;world"
NOWHERE = "Unreachable;Unreachable Domain;"
SUBMISSION = "Undefined;Submission;"
POISON = "Undefined;Poison Message;"
NOW = moment.from_text("2026-11-22T06:00:00.000Z")
LATER, SOONER = "2026-11-22T06:30:00.000Z", "2026-11-22T05:55:00.000Z"

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = {spool}

[isp : connector]
type = smarthost
address_spaces = *
hosts = smtp.isp.example:587
message_lifetime = 2d
"""


def deferred(rcpt: str = "0", until: str = LATER) -> Deferred:
    return Deferred(rcpt=rcpt, attempt=1, reply="451 4.7.1 Greylisted", host="mx[192.0.2.3]:25", until=until)


@pytest.fixture
def bag(tmp_path: Path) -> Mailbag:
    return Mailbag(tmp_path / "spool")


@pytest.fixture
def settings(tmp_path: Path, bag: Mailbag) -> Settings:
    path = tmp_path / "kmq.conf"
    path.write_text(CONFIGURATION.format(spool=bag.spool))
    return load(str(path))


def around(**queues: QueueState) -> Circumstances:
    return Circumstances(NOW, "mx.example.org", silence="kmqd does not run")


def everything(bag: Mailbag) -> dict[str, str]:
    """A message in each situation: name -> ID."""
    two = ("a@x.test", "b@y.test")
    found = {
        "fresh": bag.lay(),
        "ready": bag.lay(Routed(rcpt="0", hop=ISP)),
        "waits": bag.lay(Routed(rcpt="0", hop=ISP), deferred()),
        "its turn came": bag.lay(Routed(rcpt="0", hop=ISP), deferred(until=SOONER)),
        "two queues": bag.lay(Routed(rcpt="0", hop=ISP), Routed(rcpt="1", hop=FAR), deferred("1"), to=two),
        "one is done": bag.lay(Routed(rcpt="0-1", hop=ISP), Delivered(rcpt="0", attempt=1), deferred("1"), to=two),
        "nowhere": bag.lay(Routed(rcpt="0-1", hop=NOWHERE), to=two),
        "held": bag.lay(Routed(rcpt="0", hop=ISP), Suspended(by="uid 0", reason="look: first")),
        "held in one": bag.lay(
            *(Routed(rcpt="0", hop=ISP), Routed(rcpt="1", hop=FAR), Suspended(rcpt="1", by="uid 0")), to=two
        ),
        "goes": bag.lay(Routed(rcpt="0", hop=ISP), Removing(by="uid 0")),
        "in hand": bag.lay(Routed(rcpt="0", hop=ISP), deferred()),
        "held in hand": bag.lay(Routed(rcpt="0", hop=ISP), Suspended(by="uid 7")),
        "all done": bag.lay(Routed(rcpt="0", hop=ISP), Delivered(rcpt="0", attempt=1)),
        "poison": bag.lay(Moved(home="poison", reason="it killed 2 workers"), home="poison"),
        "strange": bag.lay(Routed(rcpt="0", hop="Telepathy;far;x")),
        "damaged": bag.lay(),
    }
    bag.envelope(found["damaged"]).write_bytes(b"no envelope")
    (bag.spool / "poison" / "69212ad0-0000ffff.eml").write_bytes(b"x")
    (bag.spool / "poison" / "69212ad0-0000ffff.reason").write_text("it has no envelope at all")
    return found


STATES = {
    "kmqd is silent": {},
    "all is well": {ISP: QueueState("Ready"), FAR: QueueState("Active")},
    "a hop is in trouble": {ISP: QueueState("Retry", "421 4.4.2 gone", NOW + 60, 2), FAR: QueueState("Retry", "", NOW)},
    "a queue is held": {ISP: QueueState("Suspended", held_by="uid 0: slow"), NOWHERE: QueueState("Suspended")},
    "a queue is in grace": {
        ISP: QueueState("Suspended", held_by="grace hold: 535 5.7.8"),
        FAR: QueueState("Connecting"),
    },
    "hours": {
        ISP: QueueState("Ready", next_retry=NOW + 600, waits_for="scheduled", told={"Timetable": "every 30m"}),
        FAR: QueueState("Ready", "421 gone", NOW + 60, 2, waits_for="out-of-hours", told={"Timetable": "on mon"}),
    },
    "hours that end after a next attempt": {
        ISP: QueueState("Ready", next_retry=NOW + 5, waits_for="out-of-hours", told={"Timetable": "on mon"}),
        FAR: QueueState("Ready", waits_for="on-demand"),
    },
    "on demand": {ISP: QueueState("Ready", waits_for="on-demand")},
}


def by_hop(share: Share) -> str:
    return str(share.hop)


@pytest.mark.parametrize("state", STATES)
def test_a_selection_says_what_a_look_says(bag: Mailbag, settings: Settings, state: str) -> None:
    """The rules of statuses stand in two places: SQL for the many, admin/listing for the one."""
    found = everything(bag)
    one = around()
    one.queues = STATES[state]
    one.in_hand = {found[name]: InHand(id=found[name], status="SMTP delivery") for name in ("in hand", "held in hand")}
    with Selection(settings, one, {}) as selection:
        told = {entry.id: entry for entry in entries(selection.lines(), one)}
    looked = {entry.id: entry for entry in (listed(message, one) for message in walk(bag.spool))}
    assert told.keys() == looked.keys()
    for name, entry in looked.items():
        for mine, theirs in itertools.zip_longest(*(sorted(one.shares, key=by_hop) for one in (told[name], entry))):
            assert mine == theirs, (name, [key for key, value in found.items() if value == name])
        told[name].shares = entry.shares
        assert told[name] == entry


def test_the_scheduler_s_word_counts_for_a_message_in_several_queues(bag: Mailbag, settings: Settings) -> None:
    found = everything(bag)
    one = around()
    name = found["two queues"]
    one.in_hand = {name: InHand(id=name, status="SMTP delivery")}
    one.statuses = {(name, ISP): "Active", (name, FAR): "Retry"}
    page = select(settings, one, filter=f"Id -eq {name}")
    assert {row.hop: row.plain["Status"] for row in page.rows} == {ISP: "Active", FAR: "Retry"}
    assert {row.plain["Phase"] for row in page.rows} == {"SMTP delivery"}


# --- properties -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("score", "scl"), [(6.9, 6), (-3.0, 0), (1e9, 9), (None, 5)])
def test_the_score_of_a_filter_of_ours_is_the_confidence(
    bag: Mailbag, settings: Settings, score: float | None, scl: int
) -> None:
    header = b"X-MS-Exchange-Organization-SCL: 5\r\n\r\n"
    passed = Passed(phase="Content filtering", step="junk", by="junk", score=score)
    bag.lay(passed, Routed(rcpt="0", hop=ISP), body=header)
    (row,) = select(settings, around()).rows
    assert row.properties["SCL"] == scl


def test_every_property_of_a_message(bag: Mailbag, settings: Settings) -> None:
    body = (
        b"Received: from a\r\n\tby b\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?= again\r\nSUBJECT: another\r\n"
        b"Message-Id:\r\n <1@x>\r\nX-MS-Exchange-Organization-SCL: 5\r\n\r\ntext\r\nSubject: none\r\n"
    )
    name = bag.lay(
        Routed(rcpt="0-1", hop=ISP, at="2026-11-22T05:50:13.250Z"),
        Delivered(rcpt="0", attempt=1),
        deferred("1"),
        to=("a@x.test", Recipient("b@y.test")),
        body=body,
        source=Source("smtp", "192.0.2.7", "client.test", "al", "mx"),
        priority="high",
        envid="E1",
    )
    (row,) = select(settings, around()).rows
    error = "451 4.7.1 Greylisted (mx[192.0.2.3]:25)"
    assert row.properties == {
        "Identity": f"mx.example.org\\smtp.isp.example:587\\{name}",
        "Id": name,
        "Queue": "mx.example.org\\smtp.isp.example:587",
        "FromAddress": "alice@example.org",
        "OriginalFromAddress": "alice@example.org",
        "Recipients": [
            {"Address": "b@y.test", "Status": "Retry", "LastError": error, "NextHop": ISP},
            {"Address": "a@x.test", "Status": "Complete", "LastError": None, "NextHop": ISP},
        ],
        "RecipientCount": 1,
        "Status": "Retry",
        "Created": "2026-11-22T05:50:11.000Z",
        "DateReceived": "2026-11-22T05:50:13.250Z",
        "MessageLatency": "00:00:02.25",
        "NextRetryTime": LATER,
        "ExpirationTime": "2026-11-24T05:50:11.000Z",
        "LastError": error,
        "DeferReason": "Transient Failure",
        "RetryCount": 1,
        "Size": len(body),
        "Priority": "High",
        "DeliveryType": "SmartHostConnectorDelivery",
        "NextHopCategory": "External",
        "NextHopConnector": "isp",
        "NextHopDomain": "smtp.isp.example:587",
        "Directionality": "Originating",
        "MessageSourceName": "SMTP:mx",
        "SourceIP": "192.0.2.7",
        "Helo": "client.test",
        "User": "al",
        "Subject": "grüße again",
        "InternetMessageId": "<1@x>",
        "SCL": 5,
        "EnvelopeId": "E1",
        "HeldBy": None,
        "Phase": None,
    }
    json.dumps(row.properties)


def test_a_notice_has_a_sender_all_the_same(bag: Mailbag, settings: Settings) -> None:
    bag.lay(sender="", to=("bob@x.test",), source=Source("dsn"), parent="69212ad0-00000000")
    (row,) = select(settings, around(), filter="OriginalFromAddress -eq bob@x.test -and FromAddress -eq ''").rows
    assert (row.properties["FromAddress"], row.properties["MessageSourceName"]) == ("", "DSN")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00:00.00"), (61.239, "00:01:01.24"), (90061.5, "1.01:01:01.50"), (3599.999, "01:00:00.00")],
)
def test_a_latency_is_written_as_exchange_writes_it(seconds: float, text: str) -> None:
    assert latency(seconds) == text


# --- which ------------------------------------------------------------------------------------------------------------


def chosen(settings: Settings, found: dict[str, str], wish: Wish) -> list[str]:
    """The names of the messages that are selected."""
    names = {value: key for key, value in found.items()}
    return [names.get(row.id, "?") for row in select(settings, around(), **wish).rows]


@pytest.mark.parametrize(
    ("wish", "names"),
    [
        ({"queue": "far.test"}, ["two queues", "held in one"]),
        ({"queue": "MX.example.org\\unreachable"}, ["nowhere"]),
        ({"queue": FAR, "filter": "Status -eq Suspended"}, ["held in one"]),
        ({"queue": "poison"}, ["poison", "?"]),
        ({"queue": "no such queue"}, []),
        ({"filter": "HeldBy -like '*look: first'"}, ["held"]),
        ({"filter": "Recipients -like *@y.test -and NextHopDomain -eq far.test"}, ["two queues", "held in one"]),
        (
            {"filter": "Status -eq Retry -and RetryCount -eq 1", "exclude": ["DnsConnectorDelivery"]},
            ["waits", "one is done", "in hand"],
        ),
        ({"include": ["Unreachable"]}, ["nowhere"]),
        ({"filter": "LastError -like '*none serves x.test and 1 other domain'"}, ["nowhere"]),
        ({"filter": "NextRetryTime -gt '2026-11-22T06:00:00Z'", "queue": "far.test"}, ["two queues"]),
    ],
)  # fmt: skip
def test_what_is_asked_for_is_found(bag: Mailbag, settings: Settings, wish: Wish, names: list[str]) -> None:
    assert chosen(settings, everything(bag), wish) == names


def test_totals_are_of_all_pages(bag: Mailbag, settings: Settings) -> None:
    everything(bag)
    with Selection(settings, around(), {"queue": "far.test"}) as found:
        rows, _ = found.page(1)
        assert (len(rows), *found.totals[:2]) == (1, 2, 2)
        assert found.unserved() == (0, [])
    with Selection(settings, around(), {}) as found:
        assert found.totals.messages == 17
        assert found.totals.rows == 19
        assert found.unserved() == (1, ["a@x.test", "b@y.test"])


# --- orders and pages -------------------------------------------------------------------------------------------------


def crowd(bag: Mailbag) -> None:
    for number in range(40):
        hop = (ISP, FAR, NOWHERE)[number % 3]
        bag.lay(
            Routed(rcpt="0", hop=hop),
            *([deferred()] if number % 2 else []),
            sender=("", "Bob@x.test", "alice@x.test", "émile@x.test")[number % 4],
            body=b"Subject: s\r\n\r\n" + b"x" * (number % 5),
        )


ORDERS = [
    "",
    "Size",
    "-Size",
    "+FromAddress,-Size",
    "-Status,SCL,Subject",
    "-NextRetryTime,FromAddress",
    "Queue,-Created",
]


@pytest.mark.parametrize("sort", ORDERS)
@pytest.mark.parametrize("filter", ["", "Size -gt 10"])
def test_pages_together_are_the_whole(bag: Mailbag, settings: Settings, sort: str, filter: str) -> None:
    crowd(bag)
    with Selection(settings, around(), {"sort": sort, "filter": filter}) as found:
        whole = [(row.id, row.hop) for row in found.rows()]
        assert list(found.names()) == whole
    paged, bookmark = [], ""
    for _ in range(100):
        page = select(settings, around(), sort=sort, filter=filter, limit=7, bookmark=bookmark)
        assert page.total == len(whole)
        paged += [(row.id, row.hop) for row in page.rows]
        bookmark = page.bookmark
        if not bookmark:
            break
    assert paged == whole
    assert len(set(whole)) == len(whole) > 20


def test_an_order_is_as_it_says(bag: Mailbag, settings: Settings) -> None:
    crowd(bag)
    rows = select(settings, around(), sort=" +fromaddress , -SIZE").rows
    keys = [(str(row.plain["FromAddress"]).lower(), -row.plain["Size"]) for row in rows]
    assert keys == sorted(keys)
    times = [row.plain["NextRetryTime"] for row in select(settings, around(), sort="NextRetryTime").rows]
    assert times == [None] * times.count(None) + [moment.from_text(LATER)] * (len(times) - times.count(None))


def test_mail_that_leaves_between_two_pages_moves_no_other(bag: Mailbag, settings: Settings) -> None:
    names = [bag.lay() for _ in range(6)]
    page = select(settings, around(), sort="-Size", limit=3)
    for gone in (names[0], names[2], names[4]):
        bag.envelope(gone).unlink()
    rest = select(settings, around(), sort="-Size", limit=3, bookmark=page.bookmark)
    assert [row.id for row in rest.rows] == [names[3], names[5]]


@pytest.mark.parametrize("sort", ["Foo", "Size,", "--Size", "+-Size", "Size;DROP TABLE share", "Size," * 8 + "Size"])
def test_an_order_that_is_none(bag: Mailbag, settings: Settings, sort: str) -> None:
    with pytest.raises(FilterError, match="order"):
        select(settings, around(), sort=sort)


def test_a_bookmark_that_is_none(bag: Mailbag, settings: Settings) -> None:
    crowd(bag)
    good = select(settings, around(), sort="Size", limit=3).bookmark
    odd = (
        '["size",1e999,1,""]',
        '["size",NaN,1,""]',
        f'["size",1,{10**30},""]',
        '["size",1,1,"\\ud800"]',
        "[" * 90_000,
    )
    forged = [base64.urlsafe_b64encode(one.encode()).decode().rstrip("=") for one in odd]
    for bookmark in ("x", "é", "W10", "e30", "WzEsMl0", good[:-3], "A" * 5000, *forged):
        with pytest.raises(FilterError, match="bookmark"):
            select(settings, around(), sort="Size", bookmark=bookmark)
    with pytest.raises(FilterError, match="another order"):
        select(settings, around(), sort="-Size", bookmark=good)


# --- whatever became of the index -------------------------------------------------------------------------------------


def kept(bag: Mailbag) -> Index:
    """The index as its process would have made it by now."""
    index.path_of(bag.spool).parent.mkdir(exist_ok=True)
    one = Index.to_write(bag.spool)
    for numbers in one.stale():
        one.look_again(numbers)
    return one


def seen(settings: Settings) -> list[tuple[str, object, object]]:
    return [(row.id, row.hop, row.plain["Status"]) for row in select(settings, around()).rows]


def test_an_index_that_is_behind_is_mended_in_memory(bag: Mailbag, settings: Settings) -> None:
    found = everything(bag)
    kept(bag).close(clean=True)
    before = index.path_of(bag.spool).read_bytes()
    with open(bag.envelope(found["ready"]), "ab") as envelope:
        envelope.write(b"\n" + event_line(Suspended(seq=2, by="uid 0")))
    bag.envelope(found["waits"]).unlink()
    new = bag.lay()
    told = seen(settings)
    assert (found["ready"], ISP, "Suspended") in told
    assert found["waits"] not in {name for name, _, _ in told}
    assert (new, SUBMISSION, "Ready") in told
    assert index.path_of(bag.spool).read_bytes() == before, "who looks writes nothing"
    assert [one.name for one in index.path_of(bag.spool).parent.iterdir()] == [index.FILE], "nothing beside it either"


def test_the_view_is_the_same_whatever_became_of_the_index(bag: Mailbag, settings: Settings) -> None:
    everything(bag)
    expected = seen(settings)
    assert len(expected) == 19
    one = kept(bag)
    one.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    one.close()
    path = index.path_of(bag.spool)
    good = path.read_bytes()
    for text in (good, b"", b"SQLite format 3\0" + b"\0" * 5000, good[: len(good) // 2], b"\xff" * 100_000):
        path.write_bytes(text)
        assert seen(settings) == expected
    torn = bytearray(good)
    for at in range(4096, len(torn), 4096):
        torn[at : at + 500] = os.urandom(500)
        path.write_bytes(torn)
        assert sorted(seen(settings)) == sorted(expected), f"torn up to {at}"
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert seen(settings) == expected


def test_another_s_database_is_not_read(bag: Mailbag, settings: Settings) -> None:
    everything(bag)
    expected = seen(settings)
    path = index.path_of(bag.spool)
    path.parent.mkdir(exist_ok=True)
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE message (mid INTEGER, bytes INTEGER, changed INTEGER)")
    foreign.close()
    assert seen(settings) == expected


def test_an_index_in_use_is_read_without_the_right_to_write(bag: Mailbag, settings: Settings) -> None:
    everything(bag)
    expected = seen(settings)
    with_writer = kept(bag)
    folder = index.path_of(bag.spool).parent
    names = sorted(one.name for one in folder.iterdir())
    assert seen(settings) == expected
    with_writer.connection.execute("BEGIN IMMEDIATE")
    with_writer.connection.execute("DELETE FROM share")
    assert seen(settings) == expected, "what is being written is not seen, and nobody waits for it"
    with_writer.connection.execute("ROLLBACK")
    assert sorted(one.name for one in folder.iterdir()) == names
    with_writer.close()


def test_a_fresh_index_is_believed_without_a_look_at_the_files(
    bag: Mailbag, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kmq.spool.as_of import AsOf

    bag.lay()
    one = kept(bag)
    gone = bag.lay()
    AsOf(bag.spool).tell(time.time())
    here = Circumstances(time.time() - 1, "mx.example.org")
    page = select(settings, here)
    assert gone not in {row.id for row in page.rows} and page.total == 1
    assert 0 <= time.time() - page.as_of < 2
    assert select(settings, around()).total == 2, "kmqd does not answer: what it told a moment ago may be its last word"
    AsOf(bag.spool).tell(time.time() - 10)
    assert select(settings, here).total == 2, "an index that nobody keeps any more is compared"
    AsOf(bag.spool).tell(time.time() + 1000)
    assert select(settings, here).total == 2, "the clock went back"
    (bag.spool / "index" / "as_of").write_bytes(b"1795351956.981 00000000        \n")
    assert select(settings, here).total == 2
    one.close()


@pytest.mark.parametrize("wish", [Wish(), Wish(filter="Size -gt 0"), Wish(sort="-Size")], ids=["all", "some", "sorted"])
def test_what_changes_while_somebody_looks_tears_nothing(bag: Mailbag, settings: Settings, wish: Wish) -> None:
    from kmq.spool.as_of import AsOf

    names = [bag.lay(Routed(rcpt="0", hop=ISP)) for _ in range(10)]
    one = kept(bag)
    AsOf(bag.spool).tell(time.time())
    with Selection(settings, Circumstances(time.time() - 1, "mx.example.org"), wish) as found:
        for name in names[2:8]:
            bag.envelope(name).unlink()
        another = bag.lay(Routed(rcpt="0", hop=FAR))
        for numbers in one.stale():
            one.look_again(numbers)
        assert found.totals.rows == 10
        rows, bookmark = found.page(5)
        assert [row.id for row in rows] == names[:5], "a view is of one moment"
        rows, bookmark = found.page(4, bookmark)
        assert {row.id for row in rows} <= {*names[5:], another}
        if wish:
            assert {row.id for row in rows} == {names[8]}, "what has left since is left out"
            assert bookmark, "and ends no list"
            assert [row.id for row in found.page(5, bookmark)[0]] == [names[9]]
        assert not found._connection.in_transaction, "the index need not keep for him what has changed since"
    one.close()


def test_while_very_much_changes_who_looks_may_see_what_was_true_a_moment_ago(
    bag: Mailbag, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kmq.spool.as_of import AsOf

    bag.lay()
    one = kept(bag)
    for _ in range(3):
        bag.lay()
    here = Circumstances(time.time() - 1, "mx.example.org")
    AsOf(bag.spool).tell(told := time.time() - 10)

    def looked(late: bool, circumstances: Circumstances = here) -> tuple[int, bool]:
        with Selection(settings, circumstances, {}, late=late) as found:
            return found.totals.rows, abs(found.as_of - told) < 0.01

    assert looked(late=True) == (4, False), "so few are read"
    monkeypatch.setattr(selection_source, "_READ_AT_MOST", 2)
    assert looked(late=True) == (1, True), "and it says of which moment it is"
    assert looked(late=False) == (4, False), "who acts on them sees all"
    assert looked(True, around()) == (4, False), "kmqd does not answer: nobody brings the index up to now"
    AsOf(bag.spool).tell(time.time() - 1000)
    assert looked(late=True) == (4, False), "the index process is stuck, or dead"
    one.close()


def test_somebody_who_looks_waits_for_what_he_has_done_himself(
    bag: Mailbag, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is told of a change when kmqd is asked for its queues; a moment later it is of that moment."""
    from kmq.spool.as_of import AsOf

    one = kept(bag)
    asked = time.time()
    AsOf(bag.spool).tell(asked - 0.5)
    waited: list[float] = []

    def catch_up(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            bag.lay()
            for numbers in one.stale():
                one.look_again(numbers)
            AsOf(bag.spool).tell(asked + 0.01)

    monkeypatch.setattr(selection_source.time, "sleep", catch_up)
    page = select(settings, Circumstances(asked, "mx.example.org"))
    assert len(waited) == 3 and page.total == 1
    one.close()


def test_no_spool_is_an_answer(tmp_path: Path, settings: Settings, bag: Mailbag) -> None:
    bag.spool.rename(tmp_path / "gone")
    with pytest.raises(SpoolError, match="is not there"):
        select(settings, around())


# --- queues -----------------------------------------------------------------------------------------------------------


def queue_names(settings: Settings, one: Circumstances, **wish: str) -> list[str]:
    page = select_queues(settings, one, **wish)  # type: ignore[arg-type]
    return [str(row.properties["NextHopDomain"]) for row in page.rows]


def test_queues_that_hold_nothing_are_not_shown_but_for_submission(bag: Mailbag, settings: Settings) -> None:
    assert queue_names(settings, around()) == ["Submission"]
    everything(bag)
    assert set(queue_names(settings, around())) == {
        *("Submission", "Poison Message", "Unreachable Domain", "far.test", "smtp.isp.example:587", "Telepathy;far;x"),
    }


def test_queues_as_kmqd_tells_them_are_filtered_and_paged(bag: Mailbag, settings: Settings) -> None:
    one = Circumstances(NOW, "mx.example.org")
    for number in range(9):
        hop = f"DnsConnectorDelivery;d{number}.test;world"
        told = {
            "NextHopDomain": f"d{number}.test",
            "NextHopCategory": "External",
            "DeliveryType": "DnsConnectorDelivery",
            "MessageCount": number % 4,
            "MessageCountsPerPriority": [0, number % 4, 0],
            "Status": "Retry" if number % 2 else "Ready",
            "NextRetryTime": LATER if number % 2 else None,
        }
        one.queues[hop] = QueueState(str(told["Status"]), told=told)
    assert queue_names(settings, one, filter="Status -eq Retry -and MessageCount -gt 1") == ["d3.test", "d7.test"]
    assert (
        queue_names(settings, one, filter="NextRetryTime -gt 2026-11-22T06:29:00Z", sort="-NextHopDomain")[0]
        == "d7.test"
    )
    assert queue_names(settings, one, filter="MessageCountsPerPriority -like '0,3,*'") == ["d3.test", "d7.test"]
    everybody = queue_names(settings, one, sort="-MessageCount,NextHopDomain")
    assert everybody[:2] == ["d3.test", "d7.test"]
    paged, bookmark = [], ""
    while bookmark or not paged:
        page = select_queues(settings, one, sort="-MessageCount,NextHopDomain", limit=4, bookmark=bookmark)
        paged += [row.properties["NextHopDomain"] for row in page.rows]
        bookmark = page.bookmark
    assert paged == everybody
    assert page.total == 10
    empty = select_queues(settings, one, exclude=["Empty", "Internal"])
    assert [row.properties["MessageCount"] for row in empty.rows] == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7])
def test_a_page_of_lines_tears_no_message(bag: Mailbag, settings: Settings, limit: int) -> None:
    for number in range(7):
        hops = [Routed(rcpt=str(at), hop=f"DnsConnectorDelivery;d{at}.test;world") for at in range(number % 4 + 1)]
        bag.lay(*hops, to=tuple(f"a@d{at}.test" for at in range(number % 4 + 1)))
    with Selection(settings, around(), {}) as found:
        whole = [entry.id for entry in entries(found.lines(), around())]
        told, bookmark = [], ""
        for _ in range(8):
            rows, bookmark = page(found, limit, bookmark)
            lines = list(entries(rows, around()))
            assert len(lines) == limit or not bookmark
            assert all(len(one.shares) == (whole.index(one.id)) % 4 + 1 for one in lines)
            told += [one.id for one in lines]
            if not bookmark:
                break
    assert told == whole and len(whole) == 7
