"""`kmq report`: a day's mail out of whatever log there is, true to the line, and not to be fooled."""

import gzip
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.admin import maillog
from kmq.admin.maillog import entries, files_of
from kmq.admin.report import NAMES, Report, Spread, Top
from kmq.errors import KmqError
from tests.cli.conftest import Place

ONE, TWO, NOTICE = "69212ad0-0000a1f3", "69212ad0-0000a1f4", "69212ad0-0000a1f5"

#: What happened on 2026-11-22: one message to three, of whom one has it, one was refused, one waits; and a refusal.
DAY = f"""\
2026-11-22T05:50:11.000Z receiver-1[42]: accepted {ONE} from=<a@example.org> delay=0.010 client=192.0.2.7 helo=c \
proto=ESMTP receiver=in size=1000 nrcpt=3
2026-11-22T05:50:11.500Z worker-1[43]: delivered {ONE} from=<a@example.org> to=<b@far.test> \
relay=mx.far.test[192.0.2.9]:25 delay=1.000 delays=0.010/0.090/0.400/0.500 dsn=2.0.0 status=sent reply="250 ok" \
queue=far.test attempt=1 size=1100
2026-11-22T05:50:11.600Z worker-1[43]: failed {ONE} from=<a@example.org> to=<c@far.test> \
relay=mx.far.test[192.0.2.9]:25 dsn=5.1.1 status=bounced reply="550 5.1.1 no such user" notice={NOTICE} size=1100
2026-11-22T05:50:11.600Z scheduler-1[41]: notice {NOTICE} from=<> to=<a@example.org> parent={ONE} size=500 nrcpt=1
2026-11-22T05:50:12.000Z worker-2[44]: deferred {ONE} from=<a@example.org> to=<d@far.test> \
relay=mx.far.test[192.0.2.8]:25 dsn=4.2.2 status=deferred reply="452 4.2.2 full" until=2026-11-22T05:55:12.000Z
2026-11-22T06:00:00.000Z worker-2[44]: delivered {NOTICE} from=<> to=<a@example.org> relay=local delay=3.000 \
delays=0.000/1.000/0.000/2.000 dsn=2.0.0 status=sent reply="250 ok" size=500
2026-11-22T06:00:01.000Z receiver-1[42]: refused from=<x@bad.test> dsn=5.7.1 reply="554 5.7.1 Relaying denied" \
client=192.0.2.66
2026-11-22T06:00:02.000Z scheduler-1[41]: checkpoint generation=7 ms=12
"""

SPAN = ("--since", "2026-11-22T00:00:00+00:00", "--until", "2026-11-23T00:00:00+00:00")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "mail.log"
    path.write_text(DAY)
    return path


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as here:
        here.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def summed(place: Place, *words: str) -> dict[str, object]:
    status, out, err = place.run("--json", "report", *words)
    assert status == 0, err
    found: dict[str, object] = json.loads(out)
    return found


def test_the_sums_of_a_day(place: Place, log: Path) -> None:
    found = summed(place, "--log", str(log), *SPAN)
    names = ("Received", "ReceivedBytes", "ReceivedRecipients", "Refused", "Delivered", "DeliveredBytes", "Deferred")
    assert [found[name] for name in names] == [1, 1000, 3, 1, 2, 1600, 1]
    assert [found[name] for name in ("Failed", "Expired", "Notices", "NotEnded", "Queued")] == [1, 0, 1, 1, 0]
    assert found["Delay"]["all"] == {"Median": 3.0, "P95": 3.0}  # type: ignore[index]
    assert found["Senders"] == [{"Name": "a@example.org", "Count": 1, "Bytes": 1000}]
    assert found["Relays"] == [
        {"Name": "local", "Count": 1, "Bytes": 500},
        {"Name": "mx.far.test[192.0.2.9]:25", "Count": 1, "Bytes": 1100},
    ]
    assert found["Failures"] == [{"Name": "mx.far.test: 550 5.1.1 no such user", "Count": 1}]
    assert found["Deferrals"] == [{"Name": "mx.far.test: 452 4.2.2 full", "Count": 1}]
    assert found["Refusals"] == [{"Name": "554 5.7.1 Relaying denied", "Count": 1}]


def test_a_person_reads_the_same(place: Place, log: Path) -> None:
    status, out, _ = place.run("report", "--log", str(log), *SPAN)
    assert status == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "1,000 B" in lines["received"] or "1000 B" in lines["received"] or "1.0 K" in lines["received"]
    assert lines["delivered"].split()[1] == "2"
    assert "mx.far.test: 550 5.1.1 no such user" in out


def test_what_filters_made_dropped_and_held_is_told(place: Place, log: Path) -> None:
    with log.open("a") as more:
        for end in (
            f"scheduler-1[41]: accepted {TWO} from=<> to=<audit@example.org> parent={ONE} proto=archive size=9 nrcpt=1",
            f'worker-1[43]: discarded {TWO} from=<> rcpt=0-1 by=antivirus reason="infected: X"',
            f"worker-1[43]: held {ONE} from=<a@example.org> to=<d@far.test> by=antivirus reason=infected",
        ):
            more.write(f"2026-11-22T07:00:00.000Z {end}\n")
    found = summed(place, "--log", str(log), *SPAN)
    assert [found[name] for name in ("Received", "Made", "Discarded", "Held")] == [1, 1, 2, 1]
    out = place.run("report", "--log", str(log), *SPAN)[1]
    for line in ("made here", "discarded", "held"):
        assert f"\n{line} " in out


def test_lines_of_another_time_are_left_out(place: Place, log: Path) -> None:
    found = summed(place, "--log", str(log), "--since", "2026-11-22T06:00:00+00:00", "--until", SPAN[3])
    assert (found["Received"], found["Delivered"], found["Refused"]) == (0, 1, 1)
    assert found["NotEnded"] == 0, "what came before is not missing here"
    status, _, err = place.run("report", "--log", str(log), "--day", "2001-01-01")
    assert status == 1 and "no line of that time" in err


def test_rotated_files_are_read_too(place: Place, log: Path) -> None:
    lines = DAY.splitlines(keepends=True)
    (log.parent / "mail.log.2.gz").write_bytes(gzip.compress("".join(lines[:2]).encode()))
    (log.parent / "mail.log.1").write_text("".join(lines[2:4]))
    log.write_text("".join(lines[4:]))
    (log.parent / "mail.log.bak").write_text(DAY)
    (log.parent / "mail.logx").write_text(DAY)
    assert summed(place, "--log", str(log), *SPAN) | {"Queued": 0} == summed(place, "--log", str(log), *SPAN)
    found = summed(place, "--log", str(log), *SPAN)
    assert (found["Received"], found["Delivered"], found["Failed"]) == (1, 2, 1)
    old = time.time() - 10 * 86400
    os.utime(log.parent / "mail.log.2.gz", (old, old))
    names = [one.name for one in files_of(log, time.time() - 86400)]
    assert sorted(names) == ["mail.log", "mail.log.1"], "one that ended before is not even opened"


@pytest.mark.parametrize(
    "front",
    [
        "2026-11-22T05:50:11.000Z worker-1[43]: ",
        "2026-11-22T05:50:11.123456+00:00 mx kmq/worker-1[43]: ",
        "Nov 22 05:50:11 mx kmq/worker-1[43]: ",
        "1795326611.123456 mx kmqd[40]: worker-1[43]: ",
        "1795326611.123456 mx kmq/worker-1[43]: ",
    ],
)
def test_every_way_of_writing_a_line_is_read(front: str, utc: None) -> None:
    line = f'{front}delivered {ONE} from=<> to=<b@far.test> reply="250 \\"ok\\" \\x0a" size=1\n'
    (found,) = entries([line], now=1795330000.0)
    assert (found.process, found.word, found.id, int(found.at)) == ("worker-1", "delivered", ONE, 1795326611)
    assert found.keys == {"from": "", "to": "b@far.test", "reply": '250 "ok" \n', "size": "1"}


def test_a_date_without_year_is_never_in_the_future(utc: None) -> None:
    (found,) = entries([f"Dec 31 23:59:59 mx kmq/worker-1[43]: poison {ONE} reason=x"], now=1799000000.0)  # 2027-01-03
    assert time.gmtime(found.at).tm_year == 2026


@pytest.mark.parametrize(
    "line",
    [
        "",
        "rubbish",
        "2026-11-22T05:50:11.000Z scheduler-1[41]: checkpoint generation=7",
        f'2026-11-22T05:50:11.000Z worker-1[43]: delivered {ONE} reply="',
        f"2026-13-45T05:50:11.000Z worker-1[43]: delivered {ONE}",
        f"2026-11-22T05:50:11.000Z worker-1[43]: warning: x=2026-11-22T05:50:11.000Z worker-1[43]: delivered {ONE}",
        f"Nov 22 05:50:11 mx sshd[9]: user kmq/worker-1[43]: delivered {ONE} to=<x@y>",
        f"1795326611.1 mx sshd[9]: x worker-1[43]: delivered {ONE}",
        "2026-11-22T05:50:11.000Z worker-1[43]: refused reply=" + '"x a=' * 5000,
        "x" * 1_000_000,
    ],
)
def test_what_is_no_line_of_ours_is_passed_over(line: str) -> None:
    assert list(entries([line])) == []


def test_text_in_a_value_is_no_line(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    forged = f"2026-11-22T05:50:11.000Z worker-1[43]: delivered {TWO} to=<x@y> size=9"
    path.write_text(f'2026-11-22T05:50:11.000Z receiver-1[42]: refused reply="554 {forged}" client=192.0.2.66\n')
    found = summed(place, "--log", str(path), *SPAN)
    assert (found["Delivered"], found["Refused"]) == (0, 1)


def test_the_order_of_processes_does_not_matter(log: Path) -> None:
    def opened(lines: list[str]) -> tuple[int, int]:
        found = Report(0, 2e9).read(entries(lines))
        return found.open, found.delivered

    lines = DAY.splitlines()
    assert opened(lines) == opened(lines[::-1]) == (1, 2)
    done = DAY + f"2026-11-22T07:00:00.000Z scheduler-1[41]: removed {ONE} by=root\n"
    assert opened(done.splitlines())[0] == 0


def test_the_line_of_a_dead_worker_counts_its_recipients() -> None:
    lines = [
        f"2026-11-22T05:50:11.000Z receiver-1[42]: accepted {ONE} from=<> size=1 nrcpt=5",
        f"2026-11-22T05:50:12.000Z scheduler-1[41]: delivered {ONE} status=sent rcpt=0-3",
        f"2026-11-22T05:50:12.000Z worker-1[41]: delivered {ONE} from=<> to=<e@x> status=sent",
    ]
    assert Report(0, 2e9).read(entries(lines)).open == 0


def test_strangers_names_do_not_fill_the_memory() -> None:
    top = Top()
    for number in range(NAMES + 1):
        top.add("often")
        top.add(f"name-{number}")
    assert len(top) <= NAMES and top.forgotten
    assert top.most(1) == [("often", NAMES + 1, 0)]


def test_shares_of_durations() -> None:
    spread = Spread()
    assert spread.share(0.5) is None
    for number in range(100, 0, -1):
        spread.add(number)
    assert (spread.share(0.5), spread.share(0.95), spread.share(1)) == (51, 96, 100)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--day", "tomorow"], "'tomorow' is no day"),
        (["--day", "2026-02-30"], "no day"),
        (["--since", "noon"], "'noon' is no time"),
        (["--day", "today", "--since", "12:00"], "leave --since"),
        (["--since", "2026-11-22", "--until", "2026-11-21"], "ends before it begins"),
    ],
)
def test_a_time_that_is_none(place: Place, words: list[str], says: str) -> None:
    status, out, err = place.run("report", *words)
    assert status == 2 and says in err and out == ""


def test_a_log_that_is_not_there(place: Place, tmp_path: Path) -> None:
    status, _, err = place.run("report", "--log", str(tmp_path / "nowhere"))
    assert status == 1 and "no such log" in err
    (tmp_path / "mail.log.1.gz").write_bytes(b"no gzip at all")
    status, _, err = place.run("report", "--log", str(tmp_path / "mail.log"))
    assert status == 1 and "mail.log.1.gz" in err


def test_the_journal_is_asked_for_the_time(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "journalctl"
    program.write_text(
        f'#!/bin/sh\necho "$@" >{tmp_path}/asked\n'
        f"echo '1795326611.5 mx kmqd[40]: receiver-1[42]: accepted {ONE} from=<a@b> size=7 nrcpt=1'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = summed(place, *SPAN)
    assert (found["Received"], found["ReceivedBytes"], found["NotEnded"]) == (1, 7, 1)
    asked = (tmp_path / "asked").read_text()
    assert "--unit=kmq" in asked and "--since=@1795305600" in asked
    program.write_text("#!/bin/sh\n")
    status, _, err = place.run("report", *SPAN)
    assert status == 1 and "mail_log = stderr" in err and "--log" in err, "kmqd in a terminal"
    program.write_text("#!/bin/sh\necho 'No journal files were found.' >&2\nexit 1\n")
    status, _, err = place.run("report", *SPAN)
    assert status == 1 and "No journal files" in err


def test_journalctl_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(KmqError, match="--log FILE"):
        list(maillog.journal(0, 1))
