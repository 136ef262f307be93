"""What operators do with queues and messages of a real kmqd, over crashes and new configurations."""

import json
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import EvilHop
from tests.torture.kmqd import CONNECTOR, Kmqd
from tests.waiting import until


class Site:
    """A kmqd with two smart hosts: `to-0` for far.test, and `to-1`, which serves near.test."""

    def __init__(self, folder: Path, far: EvilHop, near: EvilHop) -> None:
        self.far, self.near = far, near
        self.kmqd = Kmqd(folder, {"far.test": far.port, "near.test": near.port}, workers=1)
        self.path = folder / "kmq.conf"

    def run(self, *words: str, status: int = 0) -> str:
        done = self.kmqd.call(*words)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    def send(self, *to: str, sender: str = "ann@local.test") -> str:
        """A message; its ID."""
        with smtplib.SMTP("127.0.0.1", self.kmqd.port, "client.test") as client:
            client.ehlo_or_helo_if_needed()
            client.mail(sender)
            for one in to:
                client.rcpt(one)
            code, reply = client.data(b"Subject: hello\r\n\r\nhello\r\n")
        assert code == 250
        return next(word for word in reply.decode().split() if word.count("-") == 1 and len(word) == 17)

    def queue(self, hop: EvilHop) -> dict[str, Any]:
        """The properties of a hop's queue; {} when there is none."""
        lines = [json.loads(line) for line in self.run("queues", "--json").splitlines()]
        return next((one for one in lines if one["NextHopDomain"] == f"127.0.0.1:{hop.port}"), {})

    def envelope(self, name: str) -> str:
        found = [path for path in self.kmqd.queued() if path.stem == name]
        return found[0].read_text() if found else ""

    def letters(self, user: str) -> list[bytes]:
        """What came into a mailbox."""
        return [path.read_bytes() for path in (self.kmqd.mail / user / "new").glob("*")]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with EvilHop().threaded() as far, EvilHop().threaded() as near:
        here = Site(tmp_path / "k", far, near)
        try:
            here.kmqd.start()
            yield here
            assert here.kmqd.accidents() == []
        finally:
            here.kmqd.close()


def test_a_queue_stays_suspended_under_another_name_and_after_a_crash(site: Site) -> None:
    site.far.banner = "421 4.3.2 not now"
    site.send("bob@far.test")
    until(lambda: site.queue(site.far).get("Status") == "Retry", "the hop is out of reach")
    assert "suspended" in site.run("suspend", "--queue", f"127.0.0.1:{site.far.port}", "--reason", "they asked")
    before = site.queue(site.far)
    site.path.write_text(site.path.read_text().replace("[to-0 : connector]", "[line : connector]"))
    site.run("reload")
    after = site.queue(site.far)
    assert after["NextHop"] == before["NextHop"].replace(";to-0", ";line")
    for name in ("NextHopConnectorId", "Status", "MessageCount", "FirstRetryTime", "LastRetryTime", "HeldBy"):
        assert after[name] == before[name], name
    assert (after["Status"], after["MessageCount"], after["NextHopCategory"]) == ("Suspended", 1, "External")
    site.kmqd.kill_all()
    text = site.path.read_text()
    site.far.banner = "220 here"
    site.kmqd.begin()
    site.path.write_text(text)
    site.kmqd.ready()
    site.run("reload")
    again = site.queue(site.far)
    assert (again["Status"], again["MessageCount"]) == ("Suspended", 1)
    assert again["NextHopConnectorId"] == before["NextHopConnectorId"]
    assert not site.far.copies
    site.run("resume", "--queue", f"127.0.0.1:{site.far.port}")
    site.kmqd.drain()
    assert sum(site.far.copies.values()) == 1


def test_what_is_removed_in_transmission_is_not_sent_again_whatever_dies(site: Site) -> None:
    name = site.send("hang-at-dot@far.test")
    until(lambda: site.far.copies, "it is being transmitted")
    assert f"{name} pending" in site.run("remove", name)
    site.kmqd.kill("scheduler-1")
    until(lambda: site.kmqd.counters().get("in_hand"), "the next scheduler process knows who has it")
    assert site.envelope(name), "removed in somebody's hands"
    site.kmqd.kill("worker-1")
    site.kmqd.drain()
    assert sum(site.far.copies.values()) == 1


def test_recipients_of_one_queue_are_removed_with_a_notice_and_the_others_get_their_mail(site: Site) -> None:
    site.far.banner = site.near.banner = "421 4.3.2 not now"
    name = site.send("bob@far.test", "eve@near.test")
    until(lambda: site.queue(site.far).get("Status") == site.queue(site.near).get("Status") == "Retry", "both wait")
    site.run("remove", f"127.0.0.1:{site.near.port}\\{name}", "--with-ndr", "--reason", "a secret of operators")
    until(lambda: site.letters("ann"), "the sender is told")
    (letter,) = site.letters("ann")
    told = BytesParser().parsebytes(letter)
    assert told.get_content_type() == "multipart/report"
    assert b"eve@near.test" in letter and b"5.3.0" in letter
    assert b"bob@far.test" not in letter.partition(b"Content-Type: message/delivery-status")[2].partition(b"--=")[0]
    assert b"secret" not in letter and b"uid" not in letter
    site.far.banner = site.near.banner = "220 here"
    site.run("flush")
    site.kmqd.drain()
    assert [address for address, _ in site.far.copies] == ["bob@far.test"]
    assert not site.near.copies


def test_what_is_redirected_goes_by_the_other_connector_also_after_a_restart(site: Site) -> None:
    site.far.banner = site.near.banner = "421 4.3.2 not now"
    site.send("bob@far.test")
    until(lambda: site.queue(site.far).get("Status") == "Retry", "it waits")
    site.run("redirect", "--queue", f"127.0.0.1:{site.far.port}", "--to-connector", "nowhere", status=2)
    site.run("redirect", "--queue", f"127.0.0.1:{site.far.port}", "--to-connector", "to-1", "--yes")
    until(lambda: site.queue(site.near).get("MessageCount") == 1, "it waits for the other")
    site.path.write_text(site.path.read_text().replace("[to-1 : connector]", "[cable : connector]"))
    site.run("reload")
    site.kmqd.kill("scheduler-1")
    until(lambda: site.queue(site.near).get("MessageCount") == 1, "it waits there under the other name, too")
    assert not site.queue(site.far).get("MessageCount")
    site.kmqd.kill_all()
    site.near.banner = "220 here"
    site.kmqd.start()
    site.kmqd.drain()
    assert [address for address, _ in site.near.copies] == ["bob@far.test"]
    assert not site.far.copies


def test_what_is_unreachable_is_resubmitted(site: Site) -> None:
    name = site.send("bob@lost.test")
    until(lambda: "Unreachable" in site.run("queues"), "nobody serves it")
    site.run("suspend", "--queue", "Unreachable")
    connector = CONNECTOR.format(name="lost", domain="lost.test", port=site.far.port)
    site.path.write_text(site.path.read_text() + connector)
    site.run("reload")
    assert "Unreachable Domain" in site.run("queues"), "a suspended queue is not routed anew"
    assert f"{name} resubmitted" in site.run("resubmit", name)
    site.kmqd.drain()
    assert [address for address, _ in site.far.copies] == ["bob@lost.test"]


def test_two_operators_at_once_each_hear_one_clear_answer(site: Site) -> None:
    site.far.banner = "421 4.3.2 not now"
    names = [site.send(f"u{number}@far.test") for number in range(20)]
    until(lambda: site.queue(site.far).get("MessageCount") == 20, "they wait")
    verbs = (("remove",), ("suspend",), ("redirect", "--to-connector", "to-1"), ("remove", "--with-ndr"))
    command = [sys.executable, "-m", "kmq.cli.kmq", "-c", str(site.path)]
    asked = [
        subprocess.Popen([*command, *verb, *names, "--yes", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for verb in verbs
    ]
    for one in asked:
        out, err = one.communicate(timeout=60)
        lines = [json.loads(line) for line in out.splitlines()]
        assert [line["ID"] for line in lines] == names, err
        assert {line["Result"] for line in lines} <= {
            "removed",
            "suspended",
            "redirected",
            "pending",
            "gone",
            "skipped",
        }
    site.far.banner = site.near.banner = "220 here"
    until(lambda: not [one for one in names if site.envelope(one)], "all of them are gone: somebody removed each")
