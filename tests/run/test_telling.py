"""What the mail log says of a real kmqd's mail: a line for each recipient, told once, and only of what is durable."""

import asyncio
import os
import re
import signal
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from kmq import log
from kmq.log import mail, tracking
from kmq.log.text import unshown
from kmq.model.envelope import Head, Recipient
from kmq.model.event import Delivered, Routed
from kmq.model.frame import Assign
from kmq.phases.work import Body
from kmq.run import telling
from kmq.run.job import Job
from kmq.run.telling import NO_FATE, Teller, tell_of_the_dead
from kmq.spool.processes import read
from kmq.spool.status import status_path
from tests.fakes import EvilHop
from tests.run.stage import Hop, Stage
from tests.run.stage import until as until_true
from tests.torture.kmqd import Kmqd
from tests.waiting import until

LINE = re.compile(
    r"(?P<at>\S+Z) (?P<process>[a-z]+-\d+)\[\d+\]: (?P<word>[a-z-]+)(?: (?P<id>[0-9a-f]{8}-[0-9a-f]{8}))?"
)
PAIR = re.compile(r' ([a-z_]+)=("(?:[^"\\]|\\.)*"|\S+)')
LETTER = "From: a@elsewhere.test\r\nSubject: hello\r\n\r\nThe text.\r\n"


class Line(dict[str, str]):
    """Pairs of a line; word, id, process."""

    def __init__(self, text: str) -> None:
        front = LINE.match(text)
        assert front, text
        super().__init__((key, unshown(value)) for key, value in PAIR.findall(text[front.end() :]))
        self.word, self.id, self.process = front["word"], front["id"] or "", front["process"]


class Site:
    """A kmqd with its mail log in a file, and a hop that does what addresses say."""

    def __init__(self, kmqd: Kmqd, hop: EvilHop) -> None:
        self.kmqd = kmqd
        self.hop = hop
        self.path = kmqd.folder / "mail.log"

    def lines(self, *words: str) -> list[Line]:
        text = self.path.read_text() if self.path.exists() else ""
        found = [Line(line) for line in text.splitlines()]
        return [one for one in found if not words or one.word in words]

    def send(self, *to: str, sender: str = "a@elsewhere.test") -> str:
        """Hands a letter over, as soon as it is taken (451 while a new scheduler process begins); its ID."""
        answers: list[bytes] = []

        def taken() -> bool:
            with smtplib.SMTP("127.0.0.1", self.kmqd.port, "client.test") as client:
                client.ehlo()
                if client.mail(sender)[0] != 250:
                    return False
                for one in to:
                    assert client.rcpt(one)[0] == 250, one
                code, text = client.data(LETTER)
                answers.append(text)
            return code == 250

        until(taken, "the letter is taken")
        found = re.search(rb"[0-9a-f]{8}-[0-9a-f]{8}", answers[-1])
        assert found
        return found[0].decode()

    def told(self, count: int, *words: str) -> list[Line]:
        until(lambda: len(self.lines(*words)) >= count, f"{count} lines of {words}: {self.path}")
        return self.lines(*words)

    def told_of(self, name: str, count: int, *words: str) -> list[Line]:
        """The same about one message."""
        until(lambda: sum(one.id == name for one in self.lines(*words)) >= count, f"{count} lines of {name}")
        return [one for one in self.lines(*words) if one.id == name]


@contextmanager
def a_site(folder: Path) -> Iterator[Site]:
    with EvilHop().threaded() as hop:
        kmqd = Kmqd(folder, {"far.test": hop.port}, kmq=f"mail_log = {folder}/mail.log")
        try:
            kmqd.start()
            yield Site(kmqd, hop)
            assert kmqd.accidents() == []
        finally:
            kmqd.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """For stories that leave it as it was."""
    with a_site(tmp_path_factory.mktemp("shared")) as one:
        yield one


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """For stories that kill, rename and break."""
    with a_site(tmp_path) as one:
        yield one


def test_a_message_s_lines_from_its_coming_to_its_end(shared: Site) -> None:
    site = shared
    name = site.send("b@far.test", "boss@local.test")
    lines = site.told_of(name, 3)
    accepted = next(one for one in lines if one.word == "accepted")
    assert accepted.process == "receiver-1"
    assert (accepted["from"], accepted["client"], accepted["helo"]) == (
        "<a@elsewhere.test>",
        "127.0.0.1",
        "client.test",
    )
    assert (accepted["proto"], accepted["receiver"], accepted["nrcpt"]) == ("ESMTP", "in", "2")
    assert int(accepted["size"]) == len(LETTER)
    done = {one["to"]: one for one in lines if one.word == "delivered"}
    assert set(done) == {"<b@far.test>", "<boss@local.test>"}
    far, near = done["<b@far.test>"], done["<boss@local.test>"]
    assert far["relay"] == f"127.0.0.1[127.0.0.1]:{site.hop.port}" and near["relay"] == "local"
    assert far["queue"] == f"127.0.0.1:{site.hop.port}"
    for one in done.values():
        assert one.process.startswith("worker-") and one["from"] == "<a@elsewhere.test>"
        assert (one["dsn"][0], one["status"], one["reply"][:3], one["attempt"]) == ("2", "sent", "250", "1")
        parts = [float(part) for part in one["delays"].split("/")]
        assert len(parts) == 4 and abs(sum(parts) - float(one["delay"])) < 0.01
    for one in lines:
        assert list(one) == [key for key in mail.WORDS[one.word].keys if key in one], "the order never changes"


def test_deferred_failed_and_its_notice(shared: Site) -> None:
    site = shared
    site.hop.refusals["later@far.test"] = "450 4.2.0 later"
    name = site.send("later@far.test", "550-at-rcpt.x@far.test", sender="me@local.test")
    (failed,) = site.told_of(name, 1, "failed")
    assert (failed.id, failed["status"], failed["to"]) == (name, "bounced", "<550-at-rcpt.x@far.test>")
    (notice,) = site.told(1, "notice")
    assert failed["notice"] == notice.id and notice["parent"] == name
    assert (notice["from"], notice["to"], notice["nrcpt"]) == ("<>", "<me@local.test>", "1")
    (deferred,) = site.told_of(name, 1, "deferred")
    assert deferred["status"] == "deferred" and deferred["dsn"].startswith("4") and deferred["until"].endswith("Z")
    del site.hop.refusals["later@far.test"]
    (last,) = site.told_of(name, 1, "delivered")
    assert last["attempt"] == "2"
    site.told_of(notice.id, 1, "delivered")


def test_a_hop_that_is_out_of_reach_is_one_line_an_attempt(site: Site) -> None:
    site.hop.banner = "421 4.3.2 not now"
    for number in range(5):
        site.send(f"u{number}@far.test")
    site.told(2, "unavailable")
    first, second = site.lines("unavailable")[:2]
    assert (first["attempt"], second["attempt"]) == ("1", "2")
    assert first["queue"] == f"127.0.0.1:{site.hop.port}" and "421 4.3.2" in first["reply"]
    assert first["dsn"][0] == "4" and first["until"].endswith("Z") and first.id == ""
    assert site.lines("delivered", "deferred") == []
    site.hop.banner = "220 here"
    site.told(5, "delivered")


def test_a_refusal_tells_who_and_what(shared: Site) -> None:
    site = shared
    with smtplib.SMTP("127.0.0.1", site.kmqd.port, "client.test") as client:
        client.ehlo()
        client.mail("a@elsewhere.test")
        client.rcpt("nobody\\here@local.test")
        client.docmd("RCPT", "TO:<x y@local.test>")
    refused = site.told(1, "refused")
    assert all(one["client"] == "127.0.0.1" and one["dsn"][0] == one["reply"][0] for one in refused)


def test_a_thousand_recipients_are_a_thousand_lines(shared: Site) -> None:
    name = shared.send(*(f"user{number}@far.test" for number in range(1000)))
    done = shared.told_of(name, 1000, "delivered")
    assert len({one["to"] for one in done}) == 1000


def test_nothing_is_told_twice_whoever_is_killed(site: Site) -> None:
    names = []
    for who in ("scheduler-1", "receiver-1", "scheduler-1"):
        names += [site.send(f"u{number}@far.test") for number in range(20)]
        site.kmqd.kill(who)
        site.kmqd.ready()
    site.kmqd.drain()
    told = [one.id for one in site.told(len(names), "delivered")]
    assert sorted(told) == sorted(names)


def test_the_result_of_a_worker_that_died_is_told_by_the_scheduler_process(tmp_path: Path) -> None:
    """It is recorded from its socket (J9); a worker that lives tells its results itself."""

    async def story() -> str:
        async with Stage(tmp_path) as stage:
            await stage.scheduler()
            crew = await stage.crew()
            mail = await stage.receiver.mail()
            holder = await stage.holder(mail, crew)
            other = next(one for one in crew if one is not holder)
            stage.stop()
            stage.gate.touch()  # nothing is durable while its socket is read to the end
            holder.delivers(await holder.gets(mail))
            await asyncio.sleep(0)  # it is written
            holder.die()
            stage.reap(holder)
            stage.go()
            for _ in range(2):
                await stage.operator("queues")
            stage.gate.unlink()
            await stage.rounds(other)
            await until_true(lambda: f"delivered {mail}" in (tmp_path / "log").read_text(), "it is told")
            return mail

    mail = asyncio.run(story())
    told = [Line(line) for line in (tmp_path / "log").read_text().splitlines() if " delivered " in line]
    assert [(one.process, one.id, one["rcpt"], one["status"]) for one in told] == [("scheduler-1", mail, "0", "sent")]


def test_nothing_is_told_before_it_is_durable(tmp_path: Path) -> None:
    """The server has taken it and the worker has said so, but the scheduler process stands still: no line yet."""

    async def story() -> None:
        hop = Hop()
        await hop.start()
        async with Stage(tmp_path, hop=hop.port) as stage:
            worker = stage.begin("worker")
            await stage.scheduler(worker=worker.pid)
            mail = await stage.receiver.mail()
            await until_true(lambda: hop.copies, "the server has it")
            stage.stop()
            hop.answering.set()
            status = status_path(stage.spool / "status", "worker-1")
            await until_true(lambda: not read(status).in_hand, "the worker has said what became of it")
            text = (tmp_path / "log").read_text()
            assert f"delivered {mail}" not in text
            stage.go()
            await until_true(lambda: f"delivered {mail}" in (tmp_path / "log").read_text(), "it is told")

    asyncio.run(story())


@pytest.mark.parametrize("roomy", [True, False])
def test_very_many_lines_wait_for_the_reader(roomy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of 3,000 recipients: some lines at a time, none before the reader has room, and all at the end."""
    reader = SimpleNamespace(roomy=True)
    said: list[str] = []
    monkeypatch.setattr(log, "mail_lines", lambda: reader)
    monkeypatch.setattr(mail, "say", lambda word, name, text: said.append(text))
    recipients = [Recipient(f"u{n}@far.test") for n in range(3000)]
    head = Head("69212ad0-00000001", "", "2026-11-22T05:50:11.000Z", "a@b", recipients, 9)
    job = Job(Assign(1, head.id, "MailboxDelivery;x;y", "0-2999", 1), head, Body(b"", "", 0), 0)
    job.result(events=[Delivered(rcpt="0-2999", attempt=1, reply="250 ok")])

    async def story() -> None:
        teller = Teller()
        teller.known(job, NO_FATE)
        while not said:
            await asyncio.sleep(0.001)
        assert len(said) < 3000, "not all in one turn"
        reader.roomy = roomy
        before = len(said)
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(said) == (3000 if roomy else before)
        teller.close()

    asyncio.run(story())
    assert [re.findall("to=<(.*?)>", text) for text in said] == [[one.address] for one in recipients]


@pytest.mark.parametrize("original", ["", "list@near.test"])
@pytest.mark.parametrize("created", ["2026-11-22T05:50:11.000Z", "long ago"])
@pytest.mark.parametrize("hop", ["SmartHostConnectorDelivery;mx.far.test;out", "SmtpDeliveryToMailbox;near.test;box"])
def test_the_short_way_and_the_long_one_tell_the_same(
    hop: str, created: str, original: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    noted: list[tracking.Entry] = []
    monkeypatch.setattr(mail, "say", lambda word, queue_id, text: said.append(f"{word} {queue_id}{text}"))
    monkeypatch.setattr(tracking, "wanted", lambda: True)
    monkeypatch.setattr(tracking, "note", noted.append)

    def job(to: str, routed: bool) -> Job:
        people = [Recipient(f"u{number}@far.test", original=original) for number in range(300)]
        head = Head("69212ad0-0000a1f3", "", created, "a b@near.test", people, 7, took=12)
        one = Job(Assign(1, head.id, "Undefined;Submission;" if routed else hop, to, 2), head, Body(b"", "", 7), 0)
        one.routed = [Routed(rcpt=to, hop=hop, rule="the rule")] if routed else []
        sent = Delivered(rcpt=to, attempt=2, reply="250 2.1.5 so be it", host="mx[192.0.2.1]:25", tls="TLSv1.3 X")
        one.result(events=[*one.routed, sent])
        return one

    async def story() -> None:
        jobs = [job("0", routed=True), job("0", routed=False)]
        teller = Teller()
        for one in jobs:
            teller.known(one, NO_FATE)
        assert said == [], "they wait for others"
        teller.close()
        at_once = [*said], [one.custom_data for one in noted]
        assert len(said) == len(noted) == 2
        monkeypatch.setattr(telling, "_only_sent", lambda job: None)
        for one in jobs:
            teller.known(one, NO_FATE)
        teller.close()
        assert (said[2:], [one.custom_data for one in noted[2:]]) == at_once
        for one, other in zip(noted[:2], noted[2:], strict=True):
            assert one.date_time <= other.date_time
            assert msgspec.structs.replace(one, date_time=other.date_time) == other

    asyncio.run(story())


def test_a_line_that_cannot_be_made_costs_nobody_his_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is missing, and standard error tells why; the lines of others are said, also in portions and at the end."""
    said: list[str] = []
    wrong: list[str] = []
    monkeypatch.setattr(mail, "say", lambda word, queue_id, text: said.append(text))
    monkeypatch.setattr(log, "error", lambda text, **keys: wrong.append(text))

    def job(rcpt: str, count: int) -> Job:
        people = [Recipient(f"u{number}@far.test") for number in range(count)]
        head = Head("69212ad0-0000a1f3", "", "2026-11-22T05:50:11.000Z", "a@b.test", people, 7)
        one = Job(Assign(1, head.id, "MailboxDelivery;x;y", rcpt, 1), head, Body(b"", "", 7), 0)
        one.result(events=[Delivered(rcpt=rcpt, attempt=1, reply="250 ok")])
        return one

    async def story() -> None:
        teller = Teller()
        teller.known(job("1", 1), NO_FATE)  # there is no such recipient
        teller.known(job("0", 0), NO_FATE)  # nor such
        teller.known(job("0-999", 1000), NO_FATE)
        teller.known(job("0-300", 300), NO_FATE)
        teller.known(job("0", 1), NO_FATE)
        teller.close()

    asyncio.run(story())
    assert len(said) == 1000 + 300 + 1
    assert len(wrong) == 3
    monkeypatch.setattr(mail, "say", lambda word, queue_id, text: 1 // 0)
    tell_of_the_dead("69212ad0-0000a1f3", [Delivered(rcpt="0", attempt=1, reply="250 ok")])
    assert len(wrong) == 4


def test_all_processes_write_to_the_new_file_after_a_rotation(site: Site) -> None:
    site.send("b@far.test")
    site.told(2)
    site.path.rename(site.kmqd.folder / "mail.log.1")
    os.kill(site.kmqd.pid, signal.SIGUSR1)

    rotated = site.kmqd.folder / "mail.log.1"

    folders = [Path(f"/proc/{pid}/fd") for pid in site.kmqd.children().values()]
    until(
        lambda: not any(_is(fd, rotated) for folder in folders for fd in folder.iterdir()),
        "nobody has the old file open",
    )
    before = rotated.read_text()
    name = site.send("d@far.test")
    site.kmqd.drain()
    assert [one.word for one in site.lines() if one.id == name] == ["accepted", "delivered"]
    assert rotated.read_text() == before
    assert len(site.kmqd.children()) == len(site.kmqd.names()), "nobody died of it"


def _is(fd: Path, file: Path) -> bool:
    try:
        return os.path.samefile(fd, file)
    except OSError:
        return False  # closed meanwhile


def test_a_full_disk_under_the_log_stops_no_mail(tmp_path: Path) -> None:
    """/dev/full is no regular file, so each write fails as on a full disk; standard error tells of it once."""
    with EvilHop().threaded() as hop:
        kmqd = Kmqd(tmp_path, {"far.test": hop.port}, kmq="mail_log = /dev/full")
        try:
            kmqd.start()
            Site(kmqd, hop).send("b@far.test")
            until(lambda: hop.delivered("b@far.test") == 1, "mail goes on")

            def counted() -> bool:
                found = [kmqd.status(name) for name in ("receiver-1", "worker-1", "worker-2")]
                return sum(one.counters.get("log_lines_lost", 0) for one in found if one) == 2

            until(counted, "the lost lines are counted")
            assert "the mail log cannot be written" in kmqd.log
        finally:
            kmqd.close()
