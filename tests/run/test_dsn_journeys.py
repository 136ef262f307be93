"""Notices as senders get them: a real kmqd, real sockets, and the Maildir at the end (RFC 3461; rows 62, 69, 70)."""

from collections.abc import Iterator
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from smtplib import SMTP

import pytest
from flufl.bounce import all_failures

from kmq.admin import client
from kmq.model import hop as hops
from kmq.model.event import Failed
from kmq.run.terminating import delay_of, notices_of
from tests.fakes import EXTENSIONS, EvilHop
from tests.run.desk import DEAD, Desk
from tests.run.test_terminating import OFFICE, groups, job, letters, text_of
from tests.torture.kmqd import Kmqd
from tests.waiting import free_port, until

TEXT = b"Message-ID: <m@x.test>\r\nSubject: hello\r\n\r\nthe text\r\n"


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[list[Kmqd]]:
    """Those that are put in are ended; none of them may have met with an accident."""
    every: list[Kmqd] = []
    yield every
    for one in every:
        one.close()
    assert [one.accidents() for one in every] == [[] for _ in every]


def started(every: list[Kmqd], one: Kmqd) -> Kmqd:
    every.append(one)
    one.workers = 1
    one.start()
    return one


def send(to: Kmqd, sender: str, recipient: str, *rcpt: str, mail: tuple[str, ...] = ()) -> None:
    with SMTP("127.0.0.1", to.port, timeout=20) as client_:
        client_.ehlo("client.test")
        assert client_.mail(sender, list(mail))[0] == 250
        assert client_.rcpt(recipient, list(rcpt))[0] == 250
        assert client_.data(TEXT)[0] == 250


def inbox(kmqd: Kmqd, user: str) -> list[EmailMessage]:
    found = []
    for path in sorted((kmqd.mail / user / "new").glob("*")):
        parsed = BytesParser(policy=policy.default).parsebytes(path.read_bytes())
        assert isinstance(parsed, EmailMessage)
        found.append(parsed)
    return found


def noticed(kmqd: Kmqd, user: str, count: int = 1) -> list[EmailMessage]:
    """The notices in a mailbox, once there are so many."""
    until(lambda: len(inbox(kmqd, user)) >= count, f"{user} has {count} notices; log: {kmqd.folder / 'log'}")
    return inbox(kmqd, user)


# --- success ----------------------------------------------------------------------------------------------------------


def test_delivery_into_a_mailbox_is_told_to_who_asked(tmp_path: Path, folders: list[Kmqd]) -> None:
    kmqd = started(folders, Kmqd(tmp_path))
    send(kmqd, "ada@local.test", "bob@local.test", "NOTIFY=SUCCESS", "ORCPT=rfc822;Bob+40x", mail=("ENVID=QQ+3D7",))
    send(kmqd, "eve@local.test", "bob@local.test")
    (notice,) = noticed(kmqd, "ada")
    (fields,) = groups(notice)
    assert (fields["Action"], fields["Status"][0], fields["Original-Recipient"]) == ("delivered", "2", "rfc822; Bob@x")
    assert b"Original-Envelope-Id: QQ=7" in notice.as_bytes()
    assert (notice["Return-Path"], notice["In-Reply-To"]) == ("<>", "<m@x.test>")
    kmqd.drain()
    assert inbox(kmqd, "eve") == []


def test_a_server_that_knows_dsn_gets_all_that_the_sender_asked(tmp_path: Path, folders: list[Kmqd]) -> None:
    with EvilHop().threaded() as hop:
        kmqd = started(folders, Kmqd(tmp_path, hops={"far.test": hop.port}))
        asked = ("NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;x@far.test")
        send(kmqd, "ada@local.test", "x@far.test", *asked, mail=("RET=FULL", "ENVID=E1"))
        kmqd.drain()
        assert b" RET=FULL ENVID=E1" in hop.messages[0].lines[0]
        assert hop.messages[0].lines[1].endswith(b" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;x@far.test")
        assert inbox(kmqd, "ada") == []


def test_what_goes_to_a_server_without_dsn_is_relayed(tmp_path: Path, folders: list[Kmqd]) -> None:
    with EvilHop(extensions=tuple(one for one in EXTENSIONS if one != "DSN")).threaded() as hop:
        kmqd = started(folders, Kmqd(tmp_path, hops={"far.test": hop.port}))
        send(kmqd, "ada@local.test", "x@far.test", "NOTIFY=SUCCESS,FAILURE", mail=("RET=HDRS",))
        (notice,) = noticed(kmqd, "ada")
        (fields,) = groups(notice)
        assert (fields["Action"], fields["Final-Recipient"]) == ("relayed", "rfc822; x@far.test")
        assert b"NOTIFY" not in b"".join(hop.messages[0].lines)
        assert b"RET=" not in b"".join(hop.messages[0].lines)
        kmqd.drain()


# --- delay ------------------------------------------------------------------------------------------------------------


def test_a_delay_is_told_once_though_everything_is_killed(tmp_path: Path, folders: list[Kmqd]) -> None:
    port = free_port()
    kmqd = started(folders, Kmqd(tmp_path, hops={"far.test": port}, queue="delay_warning = 1s"))
    send(kmqd, "ada@local.test", "x@far.test")
    send(kmqd, "eve@local.test", "x@far.test", "NOTIFY=FAILURE")
    (notice,) = noticed(kmqd, "ada")
    (fields,) = groups(notice)
    assert (fields["Action"], fields["Status"]) == ("delayed", "4.4.1")
    assert "Will-Retry-Until" in fields
    assert all_failures(notice) == ({b"x@far.test"}, set())

    def warned() -> list[Path]:
        texts = {path: path.read_bytes() for path in kmqd.queued()}
        return [path for path, text in texts.items() if b'"event":"delayed"' in text and b'"sender":"ada@' in text]

    until(warned, "its envelope says so")
    (envelope,) = warned()
    kmqd.kill_all()
    assert b'"notice":"' in envelope.read_bytes()
    before = kmqd.log.count(" unavailable ")
    kmqd.start()
    until(lambda: kmqd.log.count(" unavailable ") >= before + 2, "the hop is tried again, and again in vain")
    with EvilHop(port=port).threaded() as hop:
        kmqd.drain()
        assert {one.sender for one in hop.messages} == {"ada@local.test", "eve@local.test"}
    assert len(inbox(kmqd, "ada")) == 1
    assert inbox(kmqd, "eve") == []


def test_a_refusal_for_now_is_told_with_its_own_reply(tmp_path: Path, folders: list[Kmqd]) -> None:
    with EvilHop().threaded() as hop:
        kmqd = started(folders, Kmqd(tmp_path, hops={"far.test": hop.port}, queue="delay_warning = 1s"))
        send(kmqd, "ada@local.test", "450-at-rcpt-4.x@far.test")
        (notice,) = noticed(kmqd, "ada")
        (fields,) = groups(notice)
        assert (fields["Action"], fields["Diagnostic-Code"]) == ("delayed", "smtp; 450 4.2.0 said so at rcpt")
        kmqd.drain()
        assert hop.delivered("450-at-rcpt-4.x@far.test") == 1
        assert len(inbox(kmqd, "ada")) == 1


def test_all_servers_down_for_five_days_are_one_warning_and_one_end() -> None:
    """Row 62, by the clock of the core: what is told is what was heard last."""
    desk = Desk()
    desk.queued(DEAD)
    told = []

    def answer(assignment):  # type: ignore[no-untyped-def]
        if assignment.delay:
            told.append(("delayed", desk.now, assignment.delay))
            desk.delayed(assignment)
        elif assignment.expire:
            told.append(("failed", desk.now, assignment.expire))
            desk.failed(assignment)
        else:
            desk.unavailable(assignment, f"451 4.4.1 connect to mx[192.0.2.1]:25: timed out at {desk.now:.0f}")

    desk.run_until(7 * 86400.0, answer)
    (_, warned, first), (_, ended, last) = told
    assert 4 * 3600 < warned < 6 * 3600
    assert 5 * 86400 < ended < 5 * 86400 + 3601
    assert (first, last) == (
        f"451 4.4.1 connect to mx[192.0.2.1]:25: timed out at {warned:.0f}",
        f"451 4.4.1 connect to mx[192.0.2.1]:25: timed out at {ended:.0f}",
    )
    assert not desk.scheduler.mids
    ((_, warning),) = letters(delay_of(job(assign={"delay": first}), hops.parse(DEAD), OFFICE))
    assert all_failures(warning) == ({b"a@b.test"}, set())
    ((_, end),) = letters(
        notices_of(job(assign={"expire": last}), [Failed(rcpt="0", reply=last)], hops.parse(DEAD), [], OFFICE)
    )
    assert (groups(end)[0]["Status"], groups(end)[0]["Diagnostic-Code"]) == ("5.4.7", f"X-kmq; {last}")
    assert all_failures(end) == (set(), {b"a@b.test"})


# --- notices that fail ------------------------------------------------------------------------------------------------


def test_an_undeliverable_notice_ends_as_a_copy_for_the_postmaster(tmp_path: Path, folders: list[Kmqd]) -> None:
    with EvilHop().threaded() as hop:
        kmqd = started(folders, Kmqd(tmp_path, hops={"far.test": hop.port}))
        send(kmqd, "550-at-rcpt.s@far.test", "550-at-rcpt.x@far.test")
        (copied,) = noticed(kmqd, "postmaster")
        kmqd.drain()
        assert copied["Subject"] == "A notice could not be delivered"
        assert copied["Return-Path"] == "<>"
        *_, whole = copied.iter_parts()
        assert whole.get_content_type() == "message/rfc822"
        assert (len(inbox(kmqd, "postmaster")), kmqd.poison(), hop.messages) == (1, [], [])


def test_two_that_bounce_at_each_other_make_one_notice_and_one_copy(tmp_path: Path, folders: list[Kmqd]) -> None:
    """Row 69."""
    with EvilHop().threaded() as hop:
        one, two = Kmqd(tmp_path / "one"), Kmqd(tmp_path / "two")
        one.hops = {"two.test": two.port, "one.test": hop.port}
        two.hops = {"one.test": one.port, "two.test": hop.port}
        started(folders, one)
        started(folders, two)
        send(one, "550-at-rcpt.s@one.test", "550-at-rcpt.x@two.test")
        noticed(one, "postmaster")
        one.drain()
        two.drain()
        assert (len(inbox(one, "postmaster")), inbox(two, "postmaster")) == (1, [])
        assert (one.poison(), two.poison(), hop.messages) == ([], [], [])


def test_two_postmasters_do_not_send_copies_to_each_other(tmp_path: Path, folders: list[Kmqd]) -> None:
    with EvilHop().threaded() as hop:
        one = Kmqd(tmp_path / "one", kmq="postmaster = 550-at-rcpt.p@two.test")
        two = Kmqd(tmp_path / "two", kmq="postmaster = 550-at-rcpt.p@one.test")
        one.hops = {"two.test": two.port, "one.test": hop.port}
        two.hops = {"one.test": one.port, "two.test": hop.port}
        started(folders, one)
        started(folders, two)
        send(one, "550-at-rcpt.s@one.test", "550-at-rcpt.x@one.test")
        until(lambda: two.poison(), "the copy is set aside where it fails")
        one.drain()
        two.drain()
        assert (len(one.poison()), len(two.poison()), hop.messages) == (0, 1, [])


def test_a_loop_through_our_own_server_ends_with_one_notice(tmp_path: Path, folders: list[Kmqd]) -> None:
    """Row 70."""
    kmqd = Kmqd(tmp_path)
    kmqd.hops = {"loop.test": kmqd.port}
    started(folders, kmqd)
    send(kmqd, "ada@local.test", "x@loop.test")
    (notice,) = noticed(kmqd, "ada")
    kmqd.drain()
    (fields,) = groups(notice)
    assert (fields["Action"], fields["Status"]) == ("failed", "5.4.6")
    assert "mail loop" in text_of(notice)
    assert len(inbox(kmqd, "ada")) == 1


# --- too much at once -------------------------------------------------------------------------------------------------


def test_mass_expiry_stops_says_so_and_goes_on_when_an_operator_says_so(tmp_path: Path, folders: list[Kmqd]) -> None:
    queue = "message_lifetime = 2s\ndelay_warning = 0\nmass_expiry = 5"
    kmqd = started(folders, Kmqd(tmp_path, hops={"far.test": free_port()}, queue=queue))
    for _ in range(12):
        send(kmqd, "ada@local.test", "x@far.test")
    until(lambda: kmqd.counters().get("expiry_stopped"), "expiry is stopped")
    run = kmqd.run
    assert "kmq expire" in client.ask(run, "queues").text
    assert kmqd.log.count("expiry is stopped") == 1
    looked = client.ask(run, "overdue")
    assert looked.lines
    assert "expiry is stopped" in looked.text

    def overdue() -> int:
        return int(client.ask(run, "overdue").text.split()[0])

    until(lambda: overdue() + len(inbox(kmqd, "ada")) == 12, "each one is told of, or overdue")
    told = len(inbox(kmqd, "ada"))
    assert told < 5
    assert len(kmqd.queued()) >= 12 - told - 1
    answer = client.ask(run, "expire")
    assert (answer.status, answer.text.split(": ")[0]) == (0, f"{12 - told} messages are overdue")
    assert len(noticed(kmqd, "ada", 12)) == 12
    kmqd.drain()
    assert client.ask(run, "queues").text == ""
