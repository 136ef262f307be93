"""The tracking log of a real kmqd: each end of each message once, whoever is killed; and what is known by it later."""

import json
import signal
import smtplib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kmq.admin import client
from kmq.cli.kmq import main
from kmq.log.tracking_files import names
from kmq.model import queue_id
from tests.fakes import EvilHop
from tests.torture.kmqd import Kmqd
from tests.waiting import until

ENDS = ("SEND", "DELIVER", "FAIL", "DROP")


class Site:
    """A kmqd, the hop of far.test, and the tracking log."""

    def __init__(self, kmqd: Kmqd, hop: EvilHop) -> None:
        self.kmqd = kmqd
        self.hop = hop

    def send(self, *to: str) -> str:
        """A letter, as soon as it is taken; its ID."""
        answers: list[bytes] = []

        def taken() -> bool:
            try:
                with smtplib.SMTP("127.0.0.1", self.kmqd.port, "client.test", timeout=20) as server:
                    server.ehlo()
                    if server.mail("boss@local.test")[0] != 250 or any(server.rcpt(one)[0] != 250 for one in to):
                        return False
                    code, text = server.data("Message-ID: <m@local.test>\r\nSubject: hello\r\n\r\ntext\r\n")
                    answers.append(text)
                    return code == 250
            except (smtplib.SMTPException, OSError):
                return False

        until(taken, "the letter is taken")
        found = queue_id.PATTERN.search(answers[-1].decode())
        assert found
        return found[0]

    def lines(self) -> list[dict[str, Any]]:
        folder = self.kmqd.spool / "log"
        return [json.loads(line) for name in names(folder) for line in (folder / name).read_text().splitlines()]

    def of(self, name: str) -> list[str]:
        return [one["event-id"] for one in self.lines() if one.get("internal-message-id") == name]

    def until_ended(self, *messages: str) -> None:
        until(lambda: all(set(ENDS) & set(self.of(one)) for one in messages), "every end stands in the log")

    def run(self, capture: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
        capture.readouterr()
        status = main(["-c", str(self.kmqd.folder / "kmq.conf"), *words])
        return status, capture.readouterr().out


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with EvilHop().threaded() as hop:
        kmqd = Kmqd(tmp_path, {"far.test": hop.port})
        try:
            kmqd.start()
            yield Site(kmqd, hop)
            assert kmqd.accidents() == []
        finally:
            kmqd.close()


def test_lives_of_messages(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    before = time.time()
    sent = site.send("b@far.test")
    both = site.send("c@far.test", "carol@local.test")
    failed = site.send("550-at-rcpt@far.test")
    site.hop.refusals["later@far.test"] = "450 4.2.0 later"
    again = site.send("later@far.test")
    until(lambda: "DEFER" in site.of(again), "it is put off")
    del site.hop.refusals["later@far.test"]
    stays = site.send("d@nowhere.test")
    site.until_ended(sent, both, failed, again)
    until(lambda: "RESOLVE" in site.of(stays), "it is routed")
    known = time.time()
    client.ask(site.kmqd.run, "remove", {"ids": [stays], "reason": "test"})
    site.until_ended(stays)
    until(lambda: sum(one["event-id"] == "DSN" for one in site.lines()) == 1, "the sender is told")

    assert sorted(site.of(sent)) == ["RECEIVE", "SEND"]
    assert sorted(site.of(again)) == ["DEFER", "RECEIVE", "SEND"]
    assert Counter(site.of(both))["SEND"] == Counter(site.of(both))["DELIVER"] == 1
    assert sorted(site.of(stays)) == ["DROP", "RECEIVE", "RESOLVE"]
    notice = next(one for one in site.lines() if one["event-id"] == "DSN")
    refused = next(one for one in site.lines() if one["event-id"] == "FAIL")
    assert notice["reference"] == [failed] and refused["reference"] == [notice["internal-message-id"]]

    status, out = site.run(capsys, "history", again)
    assert status == 0
    assert [line.split()[3] for line in out.splitlines()] == ["accepted", "deferred", "delivered"]
    assert "attempt 2" in out and "<boss@local.test>" in out
    assert "removed by" in site.run(capsys, "explain", stays)[1]
    assert site.run(capsys, "track", "--filter", "MessageId -eq '<m@local.test>' -and Recipients -like 'c@*'")[0] == 0
    then = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(known)) + f".{int(known % 1 * 1000):03d}Z"
    assert stays in site.run(capsys, "mailq", "--ids", "--at", then)[1]
    earlier = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(before - 5))
    assert site.run(capsys, "mailq", "--ids", "--at", earlier)[1] == ""


def test_each_end_is_told_once_whoever_is_killed(site: Site) -> None:
    messages: list[str] = []
    for round_ in range(3):
        messages += [site.send(f"slow-at-dot.{round_}.{number}@far.test") for number in range(15)]
        site.kmqd.kill("scheduler-1" if round_ % 2 else "worker-1", signal.SIGKILL)
        site.kmqd.ready()
    site.kmqd.drain()
    site.kmqd.stop()  # what was gathered is written
    received = {one["internal-message-id"] for one in site.lines() if one["event-id"] == "RECEIVE"}
    assert received.issuperset(messages)
    ends = Counter(one.get("internal-message-id") for one in site.lines() if one["event-id"] in ENDS)
    told = {name: count for name, count in ends.items() if name in messages}
    assert set(told.values()) == {1}
    assert len(told) > len(messages) // 2, "of a killed worker the last lines are missing, and no others"
