"""What an operator sees: mailq, queues, processes, show, history."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kmq.model.event import Crashed, Deferred, Delivered, Failed, Moved, Passed, Retried, Routed, Suspended
from kmq.model.phase import Phase
from kmq.spool.lock import SpoolLock
from kmq.spool.status import StatusFile
from tests.cli.conftest import Kmqd, Place
from tests.mailbag import BODY

ISP = "SmartHostConnectorDelivery;smtp.isp.example:587;isp"
NOWHERE = "Unreachable;Unreachable Domain;"
UNTIL = "2099-11-22T06:05:00.000Z"
REFUSED = Deferred(rcpt="0", attempt=1, reply="451 4.4.1 not now", host="mx[192.0.2.3]:25", until=UNTIL)


def objects(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_table_has_kerios_columns_and_totals(place: Place) -> None:
    first = place.bag.lay(Routed(rcpt="0", hop=ISP), REFUSED, body=b"x" * 4301)
    second = place.bag.lay(sender="", to=("a@example.org", "b@example.org", "c@example.org", "d@example.org"))
    status, out, _ = place.run("mailq")
    titles, one, two, totals, *_ = out.splitlines()
    assert status == 0
    assert titles.split() == ["ID", "Created", "Next", "Try", "Size", "From", "To", "Status"]
    assert one.startswith(first)
    assert one.endswith(
        "4.2 K  alice@example.org  bob@example.net                                         Retry: 451"
        " 4.4.1 not now (mx[192.0.2.3]:25)"
    )
    assert "ASAP" in two
    assert "a@example.org, b@example.org, c@example.org and 1 more  Ready" in two
    assert two.startswith(second)
    assert totals == "-- 2 messages, 4.3 K"


def test_an_empty_queue_says_so_and_whether_kmqd_runs(place: Place) -> None:
    assert place.run("mailq") == (0, "Mail queue is empty\nkmqd does not run: nothing is accepted or delivered.\n", "")
    lock = SpoolLock(place.spool)
    assert place.run("mailq") == (0, "Mail queue is empty\n", "")
    lock.release()


def test_a_stopped_kmqd_is_told_below_the_table(place: Place) -> None:
    place.bag.lay()
    _, out, _ = place.run("mailq")
    assert "kmqd does not run (nobody listens on" in out
    assert "What only kmqd knows" in out


def test_a_queue_in_trouble_shows_with_its_messages(place: Place, kmqd: Kmqd) -> None:
    place.bag.lay(Routed(rcpt="0", hop=ISP))
    kmqd.queues = [{"NextHop": ISP, "Status": "Retry", "LastError": "421 refused", "NextRetryTime": UNTIL}]
    _, out, _ = place.run("mailq")
    assert "Retry: 421 refused" in out
    assert "2099-11-22" in out
    assert "does not run" not in out


def test_mail_without_a_connector_says_what_to_write_and_where(place: Place) -> None:
    place.bag.lay(Routed(rcpt="0", hop=NOWHERE))
    place.bag.lay(Routed(rcpt="0-1", hop=NOWHERE), to=("x@example.com", "y@example.net"))
    _, out, _ = place.run("mailq")
    assert "waiting for a connector: none serves example.net" in out
    assert "waiting for a connector: none serves example.com and 1 other domain\n" in out
    assert "2 messages wait: no connector serves example.net, example.com." in out
    assert f"Write into {place.path}, for example:\n    [outbound : connector]\n    type = smarthost\n" in out


def test_a_connector_without_hosts_is_named(place: Place) -> None:
    place.configure(hosts="")
    place.bag.lay(Routed(rcpt="0", hop=NOWHERE))
    _, out, _ = place.run("mailq")
    assert "1 message waits: no connector serves example.net." in out
    assert f"The connector [isp : connector] would, but has no hosts yet. Fill them in in {place.path}" in out
    assert "    hosts = smtp.provider.example:587\n" in out


def test_damage_and_poison_are_lines_like_others(place: Place) -> None:
    torn = place.bag.lay()
    place.bag.envelope(torn).write_bytes(b"\0" * 50)
    poison = place.bag.lay(Moved(home="poison", reason="it killed two workers"), home="poison")
    _, out, _ = place.run("mailq")
    assert f"{torn} " in out
    assert "Damaged: the envelope's first line is damaged" in out
    assert f"{poison} " in out
    assert "Suspended: poison, it killed two workers" in out


def test_the_reason_beside_a_message_in_poison_is_shown(place: Place) -> None:
    name = place.bag.lay(home="poison")
    (place.spool / "poison" / f"{name}.reason").write_text("its checksum is wrong; it lay in queue/69212\n")
    assert "  Set aside  its checksum is wrong; it lay in queue/69212\n" in place.run("show", name)[1]
    assert place.run("history", name)[1].endswith(
        "\nset aside in poison/: its checksum is wrong; it lay in queue/69212\n"
    )
    told = place.bag.lay(Moved(home="poison", reason="it killed two workers"), home="poison")
    assert place.run("history", told)[1].count("it killed two workers") == 1


def test_mail_whose_time_is_over_is_told_as_given_up(place: Place) -> None:
    name = place.bag.lay(Failed(rcpt="0", attempt=9, reply="451 4.4.1 refused"), to=("a@x.test", "b@x.test"))
    assert (
        "failed     a@x.test: given up, its time is over; last reply: 451 4.4.1 refused"
        in place.run("history", name)[1]
    )


def test_an_empty_queue_that_is_ready_has_no_old_trouble(place: Place, kmqd: Kmqd) -> None:
    queue = {"NextHop": ISP, "NextHopDomain": "isp", "DeliveryType": "x", "LastError": "451 old", "MessageCount": 0}
    kmqd.queues = [{**queue, "Status": "Ready"}]
    assert "old" not in place.run("queues")[1]
    kmqd.queues = [{**queue, "Status": "Retry"}]
    assert "451 old" in place.run("queues")[1]


def test_a_message_whose_queue_is_in_trouble_shows_how_often_the_host_was_tried(place: Place, kmqd: Kmqd) -> None:
    name = place.bag.lay(Routed(rcpt="0", hop=ISP))
    error = "451 4.4.1 connect to isp: Connection refused"
    queue: dict[str, object] = {"NextHop": ISP, "Status": "Retry", "LastError": error, "NextRetryTime": UNTIL}
    kmqd.queues = [{**queue, "RetryCount": 7}]
    out = place.run("show", name)[1]
    assert "The whole queue smtp.isp.example:587 waits; its host was tried 7 times in vain, next try 2099-11-22" in out
    assert out.count(error) == 3, "status, recipient and queue"
    kmqd.queues = [{**queue, "Status": "Ready", "RetryCount": 0}]
    assert "The whole queue" not in place.run("show", name)[1]


def test_domains_without_a_connector_are_counted_in_english(place: Place) -> None:
    for count in (2, 3):
        place.bag.lay(Routed(rcpt=f"0-{count - 1}", hop=NOWHERE), to=tuple(f"a@{one}.test" for one in "xyz"[:count]))
    _, out, _ = place.run("mailq")
    assert "none serves x.test and 1 other domain\n" in out
    assert "none serves x.test and 2 other domains\n" in out


def test_foreign_text_cannot_touch_the_terminal(place: Place) -> None:
    evil = "\x1b]0;owned\x07\x9b2J\u202e\r\n"
    place.bag.lay(
        Routed(rcpt="0", hop=ISP),
        Deferred(rcpt="0", attempt=1, reply=f"451 {evil}", host=evil, until=UNTIL),
        Suspended(by=evil, reason=evil),
        sender=f"a{evil}@example.org",
        to=(f"b{evil}@example.net",),
        body=b"Subject: \x1b[2J\x9b\xff\r\n\r\nx",
    )
    (name,) = place.run("mailq", "--ids")[1].split()
    for words in (["mailq"], ["mailq", "--json"], ["show", name], ["show", name, "--json"], ["history", name]):
        _, out, _ = place.run(*words)
        assert all(line.isprintable() for line in out.split("\n")), words


def test_json_is_one_object_per_message_and_queue(place: Place) -> None:
    name = place.bag.lay(
        Routed(rcpt="0", hop=ISP), Routed(rcpt="1", hop=NOWHERE), REFUSED, to=("a@example.net", "b@example.com")
    )
    status, out, _ = place.run("--json", "mailq")
    assert status == 0
    lines = objects(out)
    assert [line["Identity"] for line in lines] == [
        f"mx.example.org\\smtp.isp.example:587\\{name}",
        f"mx.example.org\\Unreachable Domain\\{name}",
    ]
    error = "451 4.4.1 not now (mx[192.0.2.3]:25)"
    assert [(line["Recipients"], line["Status"]) for line in lines] == [
        ([{"Address": "a@example.net", "Status": "Retry", "LastError": error, "NextHop": ISP}], "Retry"),
        ([{"Address": "b@example.com", "Status": "Ready", "LastError": None, "NextHop": NOWHERE}], "Ready"),
    ]
    assert lines[0]["NextRetryTime"] == UNTIL
    assert place.run("mailq", "--json")[1] == out, "--json may stand before or behind the verb"


def test_one_queue_and_a_limit(place: Place) -> None:
    names = [place.bag.lay(Routed(rcpt="0", hop=ISP)) for _ in range(3)]
    place.bag.lay()
    assert place.run("mailq", "--queue", "smtp.isp.example:587", "--ids")[1].split() == names
    _, out, _ = place.run("mailq", "--queue", "smtp.isp.example:587", "--limit", "1")
    assert out.count("69212ad0-") == 1
    assert f"-- 3 messages, {3 * len(BODY)} B (1 shown)" in out
    for pattern in ("smtp.*", "MX\\*isp*:58?", "*"):
        found = place.run("mailq", "--queue", pattern, "--ids")[1].split()
        assert found[:3] == names and len(found) == 3 + (pattern == "*"), pattern


def test_a_queue_that_is_not_there_is_told_beside_those_that_are(place: Place) -> None:
    for hop in (ISP, ISP + "2"):  # two connectors to one server: their queues have one name
        place.bag.lay(Routed(rcpt="0", hop=hop))
    for strange in ("nowhere", "nowh*", "smtp.isp.example"):
        status, out, _ = place.run("mailq", "--queue", strange)
        assert status == 0 and f"No message waits in the queue {strange}.\n" in out
        assert f"No queue is called {strange}; there are: smtp.isp.example:587, Submission\n" in out
        status, out, err = place.run("mailq", "--queue", strange, "--ids")
        assert (status, out) == (0, "") and f"no queue is called {strange}; there are: smtp" in err
    for known in ("Unreachable", "poison", "Submission"):
        assert "is called" not in place.run("mailq", "--queue", known)[1], "they are there while they are empty"
    for number in range(40):
        place.bag.lay(Routed(rcpt="0", hop=f"SmartHostConnectorDelivery;mx{number}:25;isp"))
    assert place.run("mailq", "--queue", "nowhere")[1].count(":25") < 40, "who errs is not buried"


def test_no_spool_is_an_answer(tmp_path: Path, place: Place) -> None:
    place.path.write_text(place.path.read_text().replace("spool = spool", "spool = nowhere"))
    status, out, err = place.run("mailq")
    assert (status, out) == (78, "")
    assert "kmqd makes the spool when it starts" in err


def test_a_wrong_configuration_is_an_answer(place: Place) -> None:
    place.path.write_text("[kmq]\nspol = x\n")
    status, _, err = place.run("mailq")
    assert status == 78
    assert f"{place.path}:2" in err


def test_queues_as_kmqd_tells_them(place: Place, kmqd: Kmqd) -> None:
    _, out, _ = place.run("queues")
    assert [line.split()[0] for line in out.splitlines()] == ["Queue", "Submission"], "that one is always there"
    kmqd.queues = [
        {
            "Identity": "smtp.isp.example:587",
            "NextHopDomain": "smtp.isp.example:587",
            "NextHop": ISP,
            "DeliveryType": "SmartHostConnectorDelivery",
            "Status": "Retry",
            "MessageCount": 3,
            "NextRetryTime": UNTIL,
            "LastError": "421 4.4.2 \x1b[2Jrefused",
        }
    ]
    _, out, _ = place.run("queues")
    assert out.splitlines()[0].split() == [
        "Queue",
        "DeliveryType",
        "Status",
        "MessageCount",
        "NextRetryTime",
        "LastError",
    ]
    assert out.splitlines()[1].endswith(r"421 4.4.2 \x1b[2Jrefused")
    assert objects(place.run("queues", "--json")[1])[0]["Identity"] == "mx.example.org\\smtp.isp.example:587"


def test_queues_of_a_stopped_kmqd_are_counted(place: Place) -> None:
    place.bag.lay(Routed(rcpt="0", hop=ISP), REFUSED)
    place.bag.lay(Routed(rcpt="0", hop=ISP))
    place.bag.lay()
    _, out, _ = place.run("queues")
    assert "the states of queues are not known" in out
    status, out, err = place.run("queues", "--json")
    assert {line["NextHopDomain"]: line["MessageCount"] for line in objects(out)} == {
        "smtp.isp.example:587": 2,
        "Submission": 1,
    }
    assert objects(out)[0]["NextRetryTime"] == UNTIL
    assert "does not run" in err
    assert status == 0


def test_processes_show_what_they_have_in_hand(place: Place) -> None:
    assert "kmqd does not run" in place.run("processes")[1]
    own = StatusFile(place.spool / "status", "worker", 1)
    own.counters["delivered"] = 2041
    idle = StatusFile(place.spool / "status", "receiver", 1)
    slot = own.begin("69212ad0-0000a1f3", 4301, "alice@example.org", "bob@example.net")
    own.enter(slot, Phase.SMTP)
    own.show(slot, "mx.example.net[192.0.2.1]:25", 40)
    own._beaten = -1e9  # a second later
    own.flush()
    _, out, _ = place.run("processes")
    receiver, nothing, _, worker, titles, row = out.splitlines()
    assert receiver.startswith(f"receiver-1  pid {os.getpid()}  running for ")
    assert nothing == "  nothing in hand"
    assert worker.endswith("delivered 2,041")
    assert titles.split() == ["ID", "Size", "From", "To", "Status", "Server", "Time", "Percent"]
    assert row.split("  ")[1:7] == [
        "69212ad0-0000a1f3",
        "4.2 K",
        "alice@example.org",
        "bob@example.net",
        "SMTP delivery",
        "mx.example.net[192.0.2.1]:25",
    ]
    assert row.endswith("   40 %")
    lines = objects(place.run("processes", "--json")[1])
    assert [(line["Process"], line["ProcessStatus"], line.get("ID")) for line in lines] == [
        ("receiver-1", "running", None),
        ("worker-1", "running", "69212ad0-0000a1f3"),
    ]
    own.close()
    idle.close()


def test_a_dead_process_says_what_it_died_on(place: Place) -> None:
    program = (
        "import os, sys, pathlib; from kmq.spool.status import StatusFile;"
        "own = StatusFile(pathlib.Path(sys.argv[1]), 'worker', 2);"
        "own.begin('69212ad0-0000a1f3', 12, 'alice@example.org', 'bob@example.net'); own.flush(); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", program, str(place.spool / "status")], check=False)
    _, out, _ = place.run("processes")
    assert "worker-2" in out
    assert out.endswith("\nkmqd does not run: no process lives\n")
    assert "dead; last seen" in out
    assert "died with 1 message in hand:" in out
    assert "69212ad0-0000a1f3" in out
    (place.spool / "status" / "worker-3.status").write_bytes(b"\xff" * 100)
    _, out, _ = place.run("processes")
    assert out.index("worker-3") < out.index("worker-2"), "the dead come last"
    assert "does not run" not in out, "of worker-3 nobody knows"
    assert "worker-3  unknown\n  the file is empty, cut off or damaged" in out


def test_show_tells_the_whole_story(place: Place) -> None:
    name = place.bag.lay(
        Routed(rcpt="0-2", hop=ISP, rule="kmq.conf:9 [isp : connector] address_spaces = *"),
        Delivered(rcpt="1", attempt=1, reply="250 2.0.0 ok", host="mx[192.0.2.3]:25"),
        Failed(rcpt="2", attempt=1, reply="550 5.1.1 no such user", host="mx", notice="69212ad0-000000ff"),
        Deferred(rcpt="0", attempt=2, reply="451 4.4.1 not now", until=UNTIL),
        Crashed(phase="Content filtering", count=1, trace="Traceback\n  File x\nRecursionError: too deep"),
        Retried(by="uid 0"),
        Suspended(by="uid 0", reason="looks odd"),
        to=("a@example.net", "b@example.net", "c@example.net"),
    )
    status, out, err = place.run("show", name)
    assert (status, err) == (0, "")
    for said in (
        f"{name}\n",
        "From       alice@example.org",
        "by smtp from client.example.org [192.0.2.7] through receiver mx",
        "Suspended: by root: looks odd",
        str(place.bag.envelope(name)),
        "a@example.net, b@example.net, c@example.net: to smtp.isp.example:587 by connector isp (kmq.conf:9",
        "delivered  b@example.net: 250 2.0.0 ok (mx[192.0.2.3]:25)",
        "failed     c@example.net: 550 5.1.1 no such user (mx); the sender was told by 69212ad0-000000ff",
        "deferred   a@example.net: 451 4.4.1 not now, attempt 2; again at 2099-",
        "crashed    a worker in Content filtering, time 1: RecursionError: too deep",
        "retried    by root",
        "suspended  by root: looks odd",
        "  Received: from a\n      by b\n  Subject: hello\n",
    ):
        assert said in out, said
    rows = [line.split("  ")[1:3] for line in out.splitlines() if line.startswith("  ") and "@example.net  " in line]
    assert rows == [["a@example.net", "Suspended"], ["b@example.net", "Delivered"], ["c@example.net", "Failed"]]


def test_show_as_an_object(place: Place) -> None:
    name = place.bag.lay(Routed(rcpt="0", hop=ISP), REFUSED)
    (shown,) = objects(place.run("show", "--json", f"mx\\smtp.isp.example:587\\{name}")[1])
    assert shown["Identity"] == f"mx.example.org\\smtp.isp.example:587\\{name}"
    assert shown["Recipients"] == [
        {
            "Address": "bob@example.net",
            "Status": "Retry",
            "Queue": "mx.example.org\\smtp.isp.example:587",
            "NextRetryTime": UNTIL,
            "RetryCount": 1,
            "LastError": "451 4.4.1 not now (mx[192.0.2.3]:25)",
        }
    ]
    assert [event["event"] for event in shown["Events"]] == ["routed", "deferred"]  # type: ignore[attr-defined]
    assert str(shown["Header"]).endswith("Subject: hello\r\nFrom: alice@example.org")


def test_show_asks_kmqd_what_files_do_not_tell(place: Place, kmqd: Kmqd) -> None:
    name = place.bag.lay(Routed(rcpt="0", hop=ISP))
    kmqd.answers["message"] = [{"ID": name, "NextHop": ISP, "Status": "PendingRemove"}]
    _, out, _ = place.run("show", name)
    assert kmqd.asked[-1] == ("message", {"ids": [name]})
    assert "PendingRemove: an operator removed it" in out


def test_show_of_what_is_not_there_or_not_whole(place: Place) -> None:
    name, torn = place.bag.lay(), place.bag.lay()
    place.bag.folder(name).joinpath(f"{name}.eml").unlink()
    status, out, _ = place.run("show", name)
    assert status == 0
    assert "(cannot be read: No such file or directory)" in out
    assert "(the message file cannot be read)" in out
    place.bag.envelope(torn).write_bytes(b"")
    status, out, _ = place.run("show", torn)
    assert status == 1
    assert "Damaged    the envelope is empty" in out
    status, out, err = place.run("show", "69212ad0-ffffffff")
    assert (status, out) == (1, "")
    assert "69212ad0-ffffffff is not in the queue" in err


@pytest.mark.parametrize("name", ["../../etc/shadow", "69212ad0", "x\\../../etc/passwd", "69212ad0-0000a1f3\n", ""])
@pytest.mark.parametrize("verb", ["show", "history", "remove", "retry", "suspend", "resume"])
def test_what_is_no_id_is_refused_before_anything_is_opened(place: Place, verb: str, name: str) -> None:
    status, out, err = place.run(verb, name)
    assert (status, out) == (2, "")
    assert "is not a queue ID" in err


def test_history_is_one_line_per_event(place: Place) -> None:
    name = place.bag.lay(Routed(rcpt="0", hop=ISP), REFUSED)
    _, out, _ = place.run("history", name)
    assert [line.split()[3] for line in out.splitlines()] == ["accepted", "routed", "deferred"]
    lines = objects(place.run("history", name, "--json")[1])
    assert [(line["event"], line["recipients"]) for line in lines] == [
        ("routed", ["bob@example.net"]),
        ("deferred", ["bob@example.net"]),
    ]
    place.bag.envelope(name).write_bytes(b"")
    assert place.run("history", name)[0] == 1


def test_history_names_the_steps_that_found_nothing(place: Place) -> None:
    """Rules and attachments are of one phase: two lines alike would be a riddle."""
    steps = [Passed(phase="Content filtering", step=step) for step in ("rules", "attachments")]
    _, out, _ = place.run("history", place.bag.lay(*steps))
    assert [line.split("passed     ")[1] for line in out.splitlines()[1:]] == [
        "Content filtering: rules",
        "Content filtering: attachments",
    ]


def program(*words: str) -> list[str]:
    return [sys.executable, "-c", f"import sys; from kmq.cli.kmq import main; sys.exit(main({list(words)!r}))"]


@pytest.mark.parametrize("messages", [1, 50], ids=["all still in Python's buffer", "more than a pipe holds"])
def test_a_reader_that_has_seen_enough_is_no_error(place: Place, messages: int) -> None:
    for _ in range(messages):
        place.bag.lay(sender="y" * 4000)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        program("-c", str(place.path), "mailq", "--json"),
        stdout=writing,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_an_empty_queue_costs_no_libraries(place: Place) -> None:
    code = "import sys; from kmq.cli.kmq import main; main(sys.argv[1:]); print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code, "-c", str(place.path), "mailq"], capture_output=True, text=True, check=True
    )
    for library in ("msgspec", "filelock", "asyncio", "uvloop", "ctypes", "json", "socket"):
        assert f"'{library}'" not in done.stdout, library


def test_a_terminal_that_knows_no_unicode_is_no_error(place: Place) -> None:
    place.bag.lay(sender="жук@example.org")
    done = subprocess.run(
        program("-c", str(place.path), "mailq"),
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        check=True,
    )
    assert rb"\u0436\u0443\u043a@example.org" in done.stdout


def test_the_classic_name_shows_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from kmq.cli.mailq import main as mailq

    place.bag.lay()
    expected = place.run("mailq")[1]
    monkeypatch.setattr(sys, "argv", ["mailq", "-c", str(place.path)])
    assert mailq() == 0
    assert place.capture.readouterr().out == expected
