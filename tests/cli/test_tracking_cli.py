"""`kmq track`, `history`, `explain` and `mailq --at` of mail that has left, as an operator types them."""

import json
import time
from pathlib import Path

import pytest

from kmq.cli.times import unix_time
from kmq.errors import FilterError
from kmq.log import tracking
from kmq.log.tracking import Details, Entry
from kmq.log.tracking_files import name_of
from kmq.model import moment, queue_id
from kmq.model.event import Routed
from tests.cli.conftest import Kmqd, Place

BORN = int(time.time()) - 60
ID = f"{BORN:08x}-00000001"


def at(second: float) -> str:
    return moment.as_text(BORN + second)


LIFE = [
    Entry(at(0), "RECEIVE", "SMTP", ID, "<1@x>", "a@x.test", ["b@far.test"], recipient_count=1, total_bytes=70),
    Entry(at(1), "DEFER", "SMTP", ID, "", "a@x.test", ["b@far.test"], ["450 later"], server_hostname="mx.far.test"),
    Entry(at(30), "SEND", "SMTP", ID, "", "a@x.test", ["b@far.test"], ["250 ok"], server_hostname="mx.far.test"),
]
LIFE[1].custom_data = Details(queue="DnsConnectorDelivery;far.test;isp", rule="*", attempt=1, until=at(30))


@pytest.fixture
def logged(place: Place) -> Place:
    folder = place.spool / "log"
    folder.mkdir()
    text = "".join(f"{tracking._text(one)}\n" for one in LIFE)
    (folder / name_of(int(time.time()) // 3600, 1)).write_text(text)
    return place


def test_the_life_of_a_message_that_has_left(logged: Place) -> None:
    status, out, err = logged.run("history", ID)
    assert (status, err) == (0, "")
    told = [line.split("  ", 1)[1] for line in out.splitlines()]
    assert told[0].startswith("accepted   by unknown means, 70 bytes, from <a@x.test> to b@far.test")
    assert told[1].startswith("deferred   b@far.test: 450 later (mx.far.test) routed by * again at ")
    assert told[2] == "delivered  b@far.test: 250 ok (mx.far.test)"
    status, out, _ = logged.run("--json", "history", ID)
    assert [json.loads(line)["event-id"] for line in out.splitlines()] == ["RECEIVE", "DEFER", "SEND"]


def test_one_that_nobody_knows(logged: Place) -> None:
    for verb in ("history", "explain"):
        status, out, err = logged.run(verb, "69212ad0-ffffffff")
        assert status == 1
        assert "never here" in out + err


def test_why_it_is_not_there(logged: Place) -> None:
    status, out, _ = logged.run("explain", ID)
    assert status == 0
    assert "Cause     delivered: it is here no more: it was delivered" in out
    assert f"Command   kmq history {ID}" in out


def test_what_happened_selected_by_filter_time_and_number(logged: Place) -> None:
    status, out, _ = logged.run("track", "--filter", "EventId -eq SEND")
    assert status == 0 and out.count(ID) == 1 and "250 ok" in out
    assert logged.run("--json", "track", "--limit", "2")[1].count("\n") == 2
    assert json.loads(logged.run("--json", "track", "--limit", "1")[1])["event-id"] == "SEND"
    assert logged.run("track", "--until", "1h")[0] == 1
    status, _, err = logged.run("track", "--filter", "Sendr -eq x")
    assert status == 2 and "^" in err and "Sender" in err
    status, _, err = logged.run("track", "--since", "yesteryear")
    assert status == 2 and "2h" in err


def test_an_operator_s_words_are_told_with_the_addresses_that_they_are_about(logged: Place) -> None:
    several, gone = f"{BORN:08x}-00000002", f"{BORN:08x}-00000009"
    (path,) = (logged.spool / "log").iterdir()
    by = Details(by="uid 0", reason="so it is")
    more = [
        Entry(at(2), "RECEIVE", "SMTP", several, "", "c@x.test", ["d@far.test", "#e@far.test"], recipient_count=3),
        Entry(at(2), "RECEIVE", "SMTP", several, "", "c@x.test", ["#f"], recipient_count=3),
        Entry(at(3), "REDIRECT", "ADMIN", several, recipient_address=["#1-2"], custom_data=by),
        Entry(at(4), "SUSPEND", "ADMIN", several, recipient_address=["#7"], custom_data=by),
        Entry(at(5), "DROP", "ADMIN", several, custom_data=by),
        Entry(at(6), "DROP", "ADMIN", ID, custom_data=by),
        Entry(at(7), "DROP", "ADMIN", gone, recipient_address=["#0"], custom_data=by),
    ]
    with path.open("a") as file:
        file.writelines(f"{tracking._text(one)}\n" for one in more)
    out = logged.run("track", "--filter", "Source -eq ADMIN")[1].splitlines()
    told = [[cell.strip() for cell in line.split("  ") if cell.strip()][1:] for line in out[1:]]
    said = "by root: so it is"
    assert told == [
        ["REDIRECT", "ADMIN", several, "c@x.test", "#e@far.test, #f", said],
        ["SUSPEND", "ADMIN", several, "c@x.test", "#7", said],
        ["DROP", "ADMIN", several, "c@x.test", "-", said],
        ["DROP", "ADMIN", ID, "a@x.test", "b@far.test", said],
        ["DROP", "ADMIN", gone, "-", "#0", said],
    ]
    assert f"redirected #e@far.test, #f: {said}" in logged.run("history", several)[1]
    objects = map(json.loads, logged.run("--json", "track", "--filter", "EventId -eq REDIRECT")[1].splitlines())
    assert [one["recipient-address"] for one in objects] == [["#1-2"]], "programs get what stands in the file"


def test_without_a_log_it_says_so(place: Place) -> None:
    status, _, err = place.run("track")
    assert status == 1 and "tracking_log" in err
    place.path.write_text(place.path.read_text().replace("[kmq]\n", "[kmq]\ntracking_log = off\n"))
    status, _, err = place.run("track")
    assert status == 1 and "tracking_log = off" in err


def test_the_queue_as_it_stood(logged: Place) -> None:
    def then(second: float) -> str:
        status, out, _ = logged.run("mailq", "--at", at(second))
        assert status == 0
        return out

    assert "b@far.test" in then(10) and "Retry: 450 later" in then(10) and "-- 1 message, 70 B at " in then(10)
    assert "The queue was empty" in then(40)
    assert logged.run("mailq", "--ids", "--at", at(10))[1] == f"{ID}\n"
    assert json.loads(logged.run("--json", "mailq", "--at", at(10))[1])["Status"] == "Retry"
    assert "No message" not in logged.run("mailq", "--queue", "far.test", "--at", at(10))[1]
    for filter, found in (
        ("FromAddress -eq a@x.test", True),
        ("Size -gt 1KB", False),
        ("Recipients -like *@far*", True),
    ):
        assert (ID in logged.run("mailq", "--filter", filter, "--at", at(10))[1]) == found, filter
    status, _, err = logged.run("mailq", "--filter", "Subject -eq x", "--at", at(10))
    assert status == 2 and "FromAddress" in err
    status, _, err = logged.run("mailq", "--sort", "+Size", "--at", at(10))
    assert status == 2 and "--sort" in err
    assert "No message matches at " in logged.run("mailq", "--queue", "nowhere", "--at", at(10))[1]
    for _ in range(3):
        logged.bag.lay()
    status, out, _ = logged.run("mailq", "--limit", "1", "--at", "0s")
    assert out.count("69212ad0-") == 1 and "-- 3 messages, " in out and "(1 shown)" in out
    assert len(logged.run("mailq", "--limit", "2", "--ids", "--at", "0s")[1].split()) == 2
    status, _, err = logged.run("mailq", "--at", "2999-01-01")
    assert status == 2 and "still to come" in err


def test_a_queue_is_explained_by_name_or_the_names_that_exist_are_told(place: Place, kmqd: Kmqd) -> None:
    kmqd.queues = [
        {
            "NextHop": "DnsConnectorDelivery;far.test;isp",
            "NextHopDomain": "far.test",
            "Status": "Retry",
            "LastError": "451 4.4.3 DNS lookup failure (servfail) for far.test",
            "NextRetryTime": "2999-01-01T00:00:00.000Z",
            "RetryCount": 3,
            "MessageCount": 12,
        }
    ]
    status, out, _ = place.run("explain", "far.test")
    assert status == 0
    assert "far.test: 12 messages" in out and "Cause     dns-trouble" in out and "Until     2999-01-01" in out
    assert "Command   kmq retry --queue far.test" in out
    status, _, err = place.run("explain", "elsewhere.test")
    assert status == 1 and "far.test" in err
    status, out, _ = place.run("digest", "--json")
    assert json.loads(out)["MessageCount"] == 12
    assert place.run("digest", "--filter", "MessageCount -gt 100")[0] == 1
    status, _, err = place.run("digest", "--group-by", "Colour")
    assert status == 2 and "NextHopCategory" in err


def test_attempts_to_reach_the_next_hop_are_everybody_s(logged: Place, kmqd: Kmqd) -> None:
    """They stand in no envelope: the tracking log has them."""
    hop = "SmartHostConnectorDelivery;it's;isp"
    name = logged.bag.lay(Routed(rcpt="0", hop=hop, rule="kmq.conf:3"), to=("b@far.test",))
    kmqd.queues = [{"NextHop": hop, "NextHopDomain": "it's", "Status": "Retry", "LastError": "451 4.4.1 no"}]
    kmqd.queues[0] |= {"NextRetryTime": "2999-01-01T00:00:00.000Z", "RetryCount": 2, "MessageCount": 1}
    failed = [Entry(at(n), "DEFER", "QUEUE", recipient_status=[f"451 4.4.1 no {n}"]) for n in range(1, 9)]
    for n, one in enumerate(failed):
        one.custom_data = Details(queue=hop if n else "another", attempt=n)
    with open(next((logged.spool / "log").iterdir()), "a") as file:
        file.writelines(f"{tracking._text(one)}\n" for one in failed)
    status, out, _ = logged.run("explain", name)
    assert status == 0
    told = [line.split(": ")[-1] for line in out.splitlines() if line.startswith("  Attempt ")]
    assert told == [f"451 4.4.1 no {n}" for n in range(4, 9)], "the last five, in order, and of this queue"
    assert "Command   kmq retry --queue 'it'\"'\"'s'" in out


def test_an_id_that_is_a_path_is_a_name_of_no_queue(logged: Place) -> None:
    for name in ("../../etc/passwd", "69212ad0-0000", "a" * 10_000, "\x1b[2J"):
        status, out, err = logged.run("explain", name)
        assert status == 1 and "\x1b" not in out + err


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("-90s", 90), ("2026-11-22T05:50:11Z", None), ("14:30", None)]
)
def test_times(text: str, seconds: int | None) -> None:
    now = 1_795_000_000.0
    found = unix_time(text, now)
    assert found == (now - seconds if seconds else found) and found > 0


def test_what_is_no_time() -> None:
    for text in ("25:00", "tomorrow", "", "9" * 50):
        with pytest.raises(FilterError, match="14:30"):
            unix_time(text)


def test_ids_are_of_this_century() -> None:
    assert queue_id.created(queue_id.parse(ID)) == BORN
    assert Path(name_of(BORN // 3600, 1)).suffix == ".jsonl"
