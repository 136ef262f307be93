"""The tracking log: whole lines of JSON, rotated by nobody, bounded, never in the way of mail."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from kmq import log
from kmq.admin import tracked
from kmq.admin.tracked_names import EVENT_IDS, READINGS, SOURCES, TABLE
from kmq.errors import FilterError, KmqError
from kmq.log import accepted, mail, tracking
from kmq.log.tracking import EVENTS, Entry
from kmq.log.tracking_files import Keeping, clean, ended_by, name_of, names
from kmq.model.envelope import Head, Recipient
from kmq.model.event import Deferred, Delivered, Expanded, Failed, Routed
from kmq.model.frame import Assign
from kmq.phases.work import Body
from kmq.run.job import Job
from kmq.run.telling import NO_FATE, Fate, Teller, tell_of_the_dead

ID = "69212ad0-0000a1f3"
HOP = "SmartHostConnectorDelivery;isp:25;isp"
HOUR = 3600


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Whatever a test made of this process's log."""
    yield
    tracking.begin(None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tracking log begins there."""
    tracking.begin(keeping(tmp_path / "log"))
    return tmp_path / "log"


def keeping(folder: Path, file_size: int = 1 << 20, total_size: int = 1 << 30, age: float = 1e9) -> Keeping:
    return Keeping(folder, file_size, total_size, age)


def lines(folder: Path) -> list[dict[str, Any]]:
    """All of them. An empty line ends one that looked torn, since another process was just writing it."""
    log.flush()
    text = "".join((folder / name).read_text() for name in names(folder))
    return [json.loads(line) for line in text.splitlines() if line]


def only(folder: Path) -> dict[str, Any]:
    (one,) = lines(folder)
    return one


# --- what the mail log tells ------------------------------------------------------------------------------------------


def test_a_message_comes_in(folder: Path) -> None:
    keys = {"from": "a@x.test", "client": "192.0.2.7", "helo": "mx", "proto": "ESMTP", "receiver": "in", "size": 7}
    besides = mail.Besides(("b@y.test", "c@y.test"), "hello")
    mail.tell("accepted", ID, {**keys, "msgid": "<1@x>", "nrcpt": 2}, besides, tls=None)
    told = only(folder)
    assert told.pop("date-time").endswith("Z")
    assert told == {
        "event-id": "RECEIVE",
        "source": "SMTP",
        "internal-message-id": ID,
        "message-id": "<1@x>",
        "sender-address": "a@x.test",
        "recipient-address": ["b@y.test", "c@y.test"],
        "recipient-count": 2,
        "client-ip": "192.0.2.7",
        "client-hostname": "mx",
        "connector-id": "in",
        "total-bytes": 7,
        "custom-data": {"proto": "ESMTP"},
    }


def test_subjects_are_kept_when_somebody_wants_them(tmp_path: Path) -> None:
    tracking.begin(keeping(tmp_path / "log"), subjects=True)
    mail.tell("accepted", ID, besides=mail.Besides(("b@y.test",), "=?utf-8?q?gr=C3=BC=C3=9Fe?="))
    (entry,) = tracked.newest(tmp_path / "log", tracked.Question("Subject -like 'GRÜ*'"), 10)
    assert entry.message_subject == "=?utf-8?q?gr=C3=BC=C3=9Fe?="


@pytest.mark.parametrize("odd", ["=?utf-8?b?A?=", "=?no-such?q?a?=", "=?rot13?q?a?=", "=?\0?q?a?=", "=?x"])
def test_a_subject_that_cannot_be_decoded_stays_as_it_is(tmp_path: Path, odd: str) -> None:
    tracking.begin(keeping(tmp_path / "log"), subjects=True)
    mail.tell("accepted", ID, besides=mail.Besides(("b@y.test",), odd))
    (entry,) = tracked.newest(tmp_path / "log", tracked.Question("Subject -like '=*'"), 10)
    assert READINGS["MessageSubject"](entry) == odd


@pytest.mark.parametrize(
    ("word", "keys", "told"),
    [
        ("accepted", {"parent": "p"}, ("TRANSFER", "ROUTING", {"reference": ["p"]})),
        ("accepted", {"proto": "pickup"}, ("RECEIVE", "PICKUP", {})),
        ("notice", {"parent": "p"}, ("DSN", "DSN", {"reference": ["p"]})),
        ("removed", {"by": "uid 0", "reason": "spam"}, ("DROP", "ADMIN", {})),
        ("removed", {"by": "uid 0", "rcpt": "0-1"}, ("DROP", "ADMIN", {"recipient-address": ["#0-1"]})),
        ("poison", {"reason": "why"}, ("POISONMESSAGE", "QUEUE", {})),
        ("bad-file", {"file": "x.eml", "reason": "why"}, ("BADMAIL", "PICKUP", {})),
        ("suspend", {"by": "uid 0"}, ("SUSPEND", "ADMIN", {})),
        ("suspend-queue", {"by": "grace hold", "queue": "isp"}, ("SUSPEND", "QUEUE", {})),
        ("replay", {"by": "uid 0", "child": "c"}, ("RESUBMIT", "ADMIN", {"reference": ["c"]})),
    ],
)
def test_words_of_the_mail_log(folder: Path, word: str, keys: dict[str, str], told: tuple[str, str, dict]) -> None:  # type: ignore[type-arg]
    mail.tell(word, ID, keys)
    found = only(folder)
    assert (found["event-id"], found["source"]) == told[:2]
    assert told[2].items() <= found.items()
    details = {key: value for key, value in keys.items() if key not in ("parent", "rcpt", "child")}
    assert found.get("custom-data", {}) == details


def test_a_refusal_at_the_door_is_no_message(folder: Path) -> None:
    mail.tell("refused", reply="550 no")
    log.flush()
    assert not folder.exists() or lines(folder) == []


def test_it_says_what_it_has_to_whatever_the_mail_log_leaves_out(folder: Path) -> None:
    log.start("tests", "error")
    mail.tell("removed", ID, by="uid 0")
    log.start("tests", "info")
    assert only(folder)["event-id"] == "DROP"


def test_every_event_and_source_is_in_the_tables() -> None:
    assert {event for event, _ in EVENTS.values()} <= set(EVENT_IDS)
    assert {source for _, source in EVENTS.values()} <= set(SOURCES)
    assert set(EVENTS) <= set(mail.WORDS), "a word that nobody says"


def test_the_manual_has_every_event_and_property() -> None:
    text = (Path(log.__file__).parents[2] / "man" / "kmq-tracking.5").read_text()
    events = text.partition(".Ss Events")[2].partition(".Ss Filters")[0]
    assert [line.split()[2] for line in events.splitlines() if line.startswith(".It Ic ")] == list(EVENT_IDS)
    properties = text.partition(".Ss Filters")[2]
    told = [line.split()[1] for line in properties.splitlines() if line.startswith(".It ")]
    assert told == [one.name for one in TABLE.properties]


# --- results ----------------------------------------------------------------------------------------------------------


def job(*events: Any, to: int = 1, hop: str = HOP, expire: bool = False) -> Job:
    recipients = [Recipient(f"r{number}@far.test") for number in range(to)]
    head = Head(ID, "", "2026-11-22T05:50:11.000Z", "a@x.test", recipients, 1234)
    one = Job(Assign(1, ID, hop, "0", 1, 0, 0, "queue", False, expire), head, Body(b"", "", 0), 0)
    one.routed = [event for event in events if isinstance(event, Routed)]
    one.result(list(events))
    return one


def known(job: Job, fate: Fate) -> None:
    """A result that a worker tells."""

    async def told() -> None:
        teller = Teller()
        teller.known(job, fate)
        teller.close()

    asyncio.run(told())


def test_a_fresh_message_is_routed_and_sent_in_one_line(folder: Path) -> None:
    sent = Delivered(rcpt="0", attempt=1, reply="250 ok", host="isp[192.0.2.1]:25", tls="TLSv1.3 x verified")
    known(job(Routed(rcpt="0", hop=HOP, rule="kmq.conf:3"), sent, hop=""), NO_FATE)
    told = only(folder)
    assert (told["event-id"], told["source"], told["connector-id"]) == ("SEND", "SMTP", "isp")
    assert (told["server-hostname"], told["server-ip"]) == ("isp", "192.0.2.1:25")
    assert told["recipient-status"] == ["250 ok"] and told["total-bytes"] == 1234
    details = told["custom-data"]
    assert (details["queue"], details["rule"], details["tls"]) == (HOP, "kmq.conf:3", "TLSv1.3 x verified")
    assert float(details["delay"]) > 0 and len(details["delays"].split("/")) == 4


def test_results_in_their_words(folder: Path) -> None:
    box = "SmtpDeliveryToMailbox;x.test;boxes"
    known(job(Delivered(rcpt="0", attempt=1, reply="250 ok"), hop=box), NO_FATE)
    known(job(Failed(rcpt="0", attempt=9, reply="450 late", notice="0"), expire=True), ("", {"notice": ["N"]}))
    known(job(Deferred(rcpt="0", attempt=2, reply="450 no", host="isp[::1]:25")), ("T", {}))
    known(job(Expanded(rcpt="0", child="0", rule="aliases:1"), hop=""), ("", {"expansion": ["C"]}))
    known(job(Routed(rcpt="0", hop=HOP, rule="kmq.conf:3"), hop=""), NO_FATE)
    kinds = [(one["event-id"], one["source"]) for one in lines(folder)]
    assert kinds == [
        ("DELIVER", "STOREDRIVER"),
        ("FAIL", "QUEUE"),
        ("DEFER", "SMTP"),
        ("EXPAND", "ROUTING"),
        ("RESOLVE", "ROUTING"),
    ]
    _, failed, deferred, expanded, _ = lines(folder)
    assert failed["reference"] == ["N"] and failed["custom-data"]["status"] == "expired"
    assert deferred["custom-data"]["until"] == "T" and deferred["server-ip"] == "[::1]:25"
    assert expanded["reference"] == ["C"] and expanded["custom-data"]["rule"] == "aliases:1"


def test_many_recipients_are_several_lines(folder: Path) -> None:
    known(job(Delivered(rcpt="0-149", attempt=1, reply="250 ok"), to=150), NO_FATE)
    found = lines(folder)
    assert [one["recipient-count"] for one in found] == [100, 50]
    assert [address for one in found for address in one["recipient-address"]] == [f"r{n}@far.test" for n in range(150)]


def test_a_worker_that_died_is_spoken_for(folder: Path) -> None:
    tell_of_the_dead(ID, [Delivered(rcpt="0-3", attempt=1, reply="250 ok", host="isp[192.0.2.1]:25")])
    told = only(folder)
    assert (told["event-id"], told["recipient-address"]) == ("SEND", ["#0-3"])


# --- foreign text -----------------------------------------------------------------------------------------------------


@given(some.text(max_size=200))
@example('"}\n{"event-id":"SEND"')
@example("\ud800 \x00 \x1b[2J \u2028")
def test_nothing_foreign_forges_a_line(text: str) -> None:
    made = tracking._text(Entry(event_id="RECEIVE", sender_address=text))
    assert "\n" not in made
    assert json.loads(made)["event-id"] == "RECEIVE"


def test_a_mistake_of_ours_ends_nobody(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd: Any = object()
    accepted.tell(ID, accepted.Accepted(accepted.bringer({}), "a@x.test", ("b@y.test",), odd, "0.1"))
    mail.tell("accepted", ID, {"from": "a@x.test"}, besides=odd)
    assert capfd.readouterr().err.count("our program failed on an entry") == 2
    mail.tell("removed", ID, by="uid 0")
    assert only(folder)["event-id"] == "DROP"


def test_a_long_value_is_cut(folder: Path) -> None:
    mail.tell("removed", ID, by="uid 0", reason="x" * 100_000)
    assert len(only(folder)["custom-data"]["reason"]) == 1000


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_full_file_is_followed_by_another_and_the_oldest_go(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    tracking.begin(keeping(folder, file_size=2000, total_size=10_000))
    for number in range(300):
        mail.tell("removed", f"69212ad0-{number:08x}", by="uid 0", reason="x" * 50)
        log.flush()
    sizes = [(folder / name).stat().st_size for name in names(folder)]
    assert sum(sizes) <= 10_000 and len(sizes) >= 4
    assert all(2000 <= size < 2500 for size in sizes[:-1]), "a line more than full, no torn ones"
    assert [line["internal-message-id"][-8:] for line in lines(folder)][-1] == f"{299:08x}"


def test_old_files_go_and_others_stay(tmp_path: Path) -> None:
    now = int(time.time()) // HOUR
    kept = [name_of(now - back, 1) for back in (3, 2, 1, 0)]
    for name in [*kept, "README.md", "track-x.jsonl"]:
        (tmp_path / name).write_text("{}\n")
    gone = clean(keeping(tmp_path, age=1.5 * HOUR), now)
    assert gone == 1 and names(tmp_path) == kept[1:]
    assert (tmp_path / "README.md").exists() and (tmp_path / "track-x.jsonl").exists()


def test_the_order_of_files_is_that_of_their_beginning(tmp_path: Path) -> None:
    ordered = [name_of(500_000, 1), name_of(500_000, 2), name_of(500_000, 10_000), name_of(500_001, 1)]
    for name in reversed(ordered):
        (tmp_path / name).touch()
    assert names(tmp_path) == ordered
    assert ended_by(ordered[0]) == 500_001 * HOUR and ended_by("nonsense") == float("inf")


def test_a_link_is_not_written_through_and_mail_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log.start("tests", "info")
    folder = tmp_path / "log"
    folder.mkdir()
    (tmp_path / "victim").touch()
    hour = int(time.time()) // HOUR
    for later in range(2):
        (folder / name_of(hour + later, 1)).symlink_to(tmp_path / "victim")
    made = tracking.begin(keeping(folder))
    assert made is not None
    mail.tell("removed", ID, by="uid 0")
    made.flush()
    assert (tmp_path / "victim").read_text() == "" and made.lost == 1
    for link in folder.iterdir():
        link.unlink()
    mail.tell("removed", ID, by="uid 0")
    made.flush()
    assert [one["event-id"] for one in lines(folder)] == ["DROP", "LOST"]
    assert lines(folder)[1]["custom-data"] == {"lines": 1}


WRITER = """
import sys
from pathlib import Path
from kmq.log import mail, tracking
from kmq.log.tracking_files import Keeping
made = tracking.begin(Keeping(Path(sys.argv[1]), 20000, 1 << 30, 1e9))
for number in range(500):
    mail.tell("removed", f"{int(sys.argv[2]):08x}-{number:08x}", by="uid 0", reason="x" * (number % 200))
    if number % 7 == 0:
        made.flush()
made.flush()
"""


def test_a_line_that_the_power_tore_takes_no_other_with_it(tmp_path: Path) -> None:
    hour = int(time.time()) // HOUR
    for later in range(2):
        (tmp_path / name_of(hour + later, 1)).write_bytes(b'{"event-id":"SEND"}\n{"event-id":"FA\0\0\0')
    tracking.begin(keeping(tmp_path))
    for _ in range(2):
        mail.tell("removed", ID, by="uid 0")
    tracking.begin(None)
    told = [one.event_id for one in tracked.entries(tmp_path, tracked.Question())]
    assert told.count("DROP") == 2 and told.count("SEND") == 2 and len(told) == 4


def test_several_processes_write_whole_lines_into_the_same_files(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(n)]) for n in range(3)]
    assert [one.wait(60) for one in writers] == [0, 0, 0]
    told = [line["internal-message-id"] for line in lines(folder)]
    assert sorted(told) == sorted(f"{n:08x}-{number:08x}" for n in range(3) for number in range(500))
    assert len(names(folder)) > 3


# --- reading ----------------------------------------------------------------------------------------------------------


def write(folder: Path, *entries: Entry, hour: int | None = None) -> None:
    folder.mkdir(exist_ok=True)
    text = "".join(f"{tracking._text(one)}\n" for one in entries)
    with open(folder / name_of(int(time.time()) // HOUR if hour is None else hour, 1), "a") as file:
        file.write(text)


def test_torn_and_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, Entry(event_id="SEND", internal_message_id=ID))
    path = tmp_path / names(tmp_path)[0]
    whole = path.read_bytes()
    path.write_bytes(b'\0\0\n[]\n{"event-id":7}\n\xff\xfe\n' + whole + whole[:-20])
    assert [one.event_id for one in tracked.entries(tmp_path, tracked.Question())] == ["SEND"]


def test_the_newest_are_found_without_reading_all(tmp_path: Path) -> None:
    for back in (2, 1, 0):
        hour = int(time.time()) // HOUR - back
        write(tmp_path, *(Entry(f"{3 - back}-{n}", "SEND") for n in range(5)), hour=hour)
    oldest = tmp_path / names(tmp_path)[0]
    oldest.unlink()
    oldest.symlink_to("/etc/passwd")  # reading it would be an error
    found = tracked.newest(tmp_path, tracked.Question(), 7)
    assert [one.date_time for one in found] == ["2-3", "2-4", *(f"3-{n}" for n in range(5))]


def test_files_outside_the_time_are_not_opened(tmp_path: Path) -> None:
    now = time.time()
    write(tmp_path, Entry("2026-11-22T05:50:11.000Z", "SEND"), hour=int(now) // HOUR - 100)
    (tmp_path / names(tmp_path)[0]).chmod(0)
    assert list(tracked.entries(tmp_path, tracked.Question(since=now - HOUR))) == []


MANY = [
    Entry("2026-11-22T05:50:11.000Z", "SEND", "SMTP", ID, sender_address="a@X.test", recipient_address=["b@y.test"]),
    Entry("2026-11-22T05:50:12.000Z", "FAIL", "SMTP", ID, total_bytes=5000, recipient_status=["550 no such user"]),
    Entry("2026-11-22T05:50:13.000Z", "DSN", "DSN", "69212ad0-0000a1f4", reference=[ID]),
]


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        ("EventId -eq send", [0]),
        ("event-id -in (SEND, FAIL)", [0, 1]),
        ("Sender -like '*@x.TEST'", [0]),
        ("Recipients -eq 'B@y.test' -and Sender -ne ''", [0]),
        ("RecipientStatus -like '550*'", [1]),
        ("TotalBytes -gt 4KB", [1]),
        ("Timestamp -ge '2026-11-22T05:50:12Z'", [1, 2]),
        (f"Reference -eq {ID}", [2]),
        (f"ID -eq {ID}", [0, 1]),
        ("-not (EventId -eq DSN)", [0, 1]),
        ("MessageId -eq $null", [0, 1, 2]),
        ("Sender -eq 'nobody'", []),
    ],
)
def test_filters(tmp_path: Path, filter: str, found: list[int]) -> None:
    write(tmp_path, *MANY)
    told = [one.date_time for one in tracked.entries(tmp_path, tracked.Question(filter))]
    assert told == [MANY[place].date_time for place in found]


def test_a_mistake_in_a_filter_names_what_there_is() -> None:
    with pytest.raises(FilterError, match="Sender"):
        tracked.Question("Sendr -eq x")


@given(
    some.sampled_from(["Sender", "RecipientStatus", "Recipients", "Reason", "InternalMessageId"]),
    some.sampled_from(["-eq", "-like", "-contains"]),
    some.text('aAsSeEnNdD5*@."\\ü 0', max_size=6),
)
def test_looking_at_bytes_first_finds_the_same(name: str, operator: str, value: str) -> None:
    quoted = "'" + value.replace("'", "''") + "'"
    question = tracked.Question(f"{name} {operator} {quoted}")
    plain = tracked.Question(f"{name} {operator} {quoted}")
    plain._needles = []
    for entry in MANY:
        line = tracking._text(entry).encode()
        assert (question.answers(line) is None) == (plain.answers(line) is None)


def test_all_about_one_message(tmp_path: Path) -> None:
    write(tmp_path, *reversed(MANY))
    assert [one.event_id for one in tracked.about(tmp_path, ID)] == ["SEND", "FAIL", "DSN"]
    assert tracked.about(tmp_path / "nowhere", ID) == []
    with pytest.raises(KmqError, match="tracking_log"):
        list(tracked.entries(tmp_path / "nowhere", tracked.Question()))


def test_a_device_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name_of(int(time.time()) // HOUR, 1))
    assert list(tracked.entries(tmp_path, tracked.Question())) == []
