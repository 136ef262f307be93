"""A real kmqd with three workers: mail to an agent, a gateway, nowhere, and no; and what happens when they fail."""

import json
import os
import re
import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.phases.programs import GOOD, HELLO, born, lives, notes, program
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import until

CONNECTORS = """

[fax : connector]
type = agent
address_spaces = fax, *.fax
command = {folder}/agent
answer_timeout = {patience}

[x400 : connector]
type = foreign
address_spaces = x400
drop_quota_files = 3

[no : connector]
type = error
address_spaces = no.test
reply = 550 5.7.1 we do not write to them

[hole : connector]
type = discard
address_spaces = hole
"""

#: It takes its time, and tells when it begins and ends with a message.
CAREFUL = HELLO + (
    "for said in messages():\n"
    '    note("begin", said["id"], said["attempt"])\n'
    '    while os.path.exists(sys.argv[0] + ".wait"):\n        time.sleep(0.01)\n'
    '    note("end", said["id"])\n'
    '    tell(n=said["n"], reply="250 2.0.0 faxed")\n'
)


class Site:
    """kmqd, and its program in a folder."""

    def __init__(self, folder: Path, text: str = GOOD, patience: str = "1m") -> None:
        self.folder = folder
        if text:
            program(folder, text)
        more = CONNECTORS.format(folder=folder, patience=patience)
        self.kmqd = Kmqd(folder / "kmqd", drops=NO_DROPS + more, workers=3)

    def send(self, *to: str, options: tuple[str, ...] = ()) -> None:
        with smtplib.SMTP("127.0.0.1", self.kmqd.port, timeout=60) as client:
            client.sendmail("alice@local.test", to, b"Subject: x\r\n\r\nhello\r\n", rcpt_options=options)

    def queue(self, name: str) -> dict[str, Any]:
        rows = [json.loads(line) for line in self.kmqd.asked("queues", "--json").splitlines()]
        return next((row for row in rows if row["NextHopDomain"] == name), {})

    def delivered(self, pattern: str) -> int:
        return len(re.findall(rf" delivered .*{pattern}", self.kmqd.log))

    def logged(self, pattern: str) -> None:
        """Lines come to the log some moments later."""
        until(lambda: re.search(pattern, self.kmqd.log), f"the log says {pattern}")

    @property
    def dropped(self) -> list[Path]:
        return sorted((self.kmqd.spool / "drop/x400").glob("*.eml"))

    def letters(self) -> list[str]:
        """What alice got."""
        return [path.read_text() for path in (self.kmqd.mail / "alice/new").glob("*")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def play(site: Site) -> Iterator[Site]:
    site.kmqd.start()
    try:
        yield site
        assert site.kmqd.stop() == 0
        assert site.kmqd.accidents() == []
    finally:
        site.kmqd.close()


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    """An earlier kmqd left what a program was reading."""
    made = Site(folder)
    (made.kmqd.spool / "agents").mkdir(parents=True)
    made.kmqd.spool.chmod(0o750)
    (made.kmqd.spool / "agents/fax.9.17.eml").write_text("left over")
    yield from play(made)


@pytest.fixture
def careful(folder: Path) -> Iterator[Site]:
    yield from play(Site(folder, CAREFUL))


def test_one_message_leaves_by_all_four_ways(site: Site) -> None:
    """Each recipient by his own; a sender who asked hears what became of it, but not of what was thrown away."""
    site.send("49@fax", "a@x400", "b@x400", "c@hole", "d@no.test", options=("NOTIFY=SUCCESS,FAILURE",))
    until(lambda: len(site.letters()) == 3, "alice has three notices")
    (path,) = site.dropped
    assert path.read_text().count("X-Receiver: ") == 2
    site.logged(r"delivered .*to=<c@hole>.* reply=\"250 2.0.0 discarded \(by connector hole\)\"")
    site.logged(r"failed .*to=<d@no.test>.* dsn=5.7.1 .* queue=no ")
    site.logged(r"delivered .*to=<49@fax> relay=fax .* queue=fax ")
    told = "\n".join(site.letters())
    assert "we do not write to them" in told
    assert "Action: relayed" in told
    assert "c@hole" not in "".join(re.findall(r"Final-Recipient.*", told))
    site.kmqd.drain()
    assert {name: site.queue(name)["DeliveryType"] for name in ("fax", "x400", "hole", "no")} == {
        "fax": "DeliveryAgent",
        "x400": "NonSmtpGatewayDelivery",
        "hole": "NonSmtpGatewayDelivery",
        "no": "NonSmtpGatewayDelivery",
    }
    assert os.listdir(site.kmqd.spool / "agents") == []

    def sources() -> set[str]:
        entries = [json.loads(line) for line in site.kmqd.asked("track", "--json").splitlines()]
        return {entry["source"] for entry in entries if entry["event-id"] in ("SEND", "FAIL")}

    until(lambda: sources() == {"AGENT", "GATEWAY"}, "the tracking log tells who had them")
    path.unlink()
    a_full_folder_is_waited_for(site)


def a_full_folder_is_waited_for(site: Site) -> None:
    for _ in range(6):
        site.send("a@x400")
    until(lambda: site.queue("x400").get("Status") == "Retry" and len(site.dropped) >= 3, "the folder is full")
    assert "4.3.1" in site.queue("x400")["LastError"]
    assert "the gateway has not taken what waits" in site.kmqd.asked("explain", "x400")
    taken = 0

    def all_taken() -> bool:
        nonlocal taken
        for path in site.dropped:
            path.unlink()
            taken += 1
        return taken == 6

    until(all_taken, "the gateway has them all")
    site.kmqd.drain()


def test_one_program_for_the_whole_machine(careful: Site) -> None:
    """Three workers, `processes = 1`: there is one, and it has one message at a time."""
    for number in range(30):
        careful.send(f"{number}@q{number % 3}.fax")
    until(lambda: careful.delivered("relay=fax") == 30, "all are faxed")
    assert len(born(careful.folder)) == 1
    said = [note.split()[0] for note in notes(careful.folder)[1:]]
    assert said == ["begin", "end"] * 30
    a_program_hears_the_end_when_kmqd_is_killed(careful)


def a_program_hears_the_end_when_kmqd_is_killed(careful: Site) -> None:
    (pid,) = born(careful.folder)
    careful.kmqd.kill_all()
    until(lambda: not lives(pid), "the program is gone")
    careful.kmqd.start()


def test_a_program_that_stands_still_keeps_nobody_else(folder: Path) -> None:
    """Its queue waits, all other mail goes; when its time is up it is ended, and what it had comes again."""
    (folder / "agent.wait").touch()
    site = Site(folder, CAREFUL, patience="2s")
    for _ in play(site):
        for number in range(20):
            site.send(f"{number}@fax")
        until(lambda: "begin" in " ".join(notes(folder)), "it has a message")
        for number in range(20):
            site.send(f"u{number}@local.test", f"{number}@hole")
        until(lambda: site.delivered("queue=local.test") == 20, "mailboxes have theirs")
        until(lambda: site.delivered("queue=hole") == 20, "nowhere has its own")
        until(lambda: len(born(folder)) > 1, "the program is begun anew")
        site.logged("did not answer in 2 s")
        (folder / "agent.wait").unlink()
        until(lambda: site.delivered("relay=fax") >= 18, "the others are faxed")


def test_a_worker_that_dies_has_its_message_handed_over_again(careful: Site) -> None:
    """With the same ID and attempt, so that an agent may know it; the program of the dead one ends by itself."""
    (careful.folder / "agent.wait").touch()
    careful.send("49@fax")
    until(lambda: len(notes(careful.folder)) == 2, "the program has it")
    (first,) = born(careful.folder)
    parent = int(re.findall(r"PPid:\t(\d+)", Path(f"/proc/{first}/status").read_text())[0])
    (name,) = [name for name, pid in careful.kmqd.children().items() if pid == parent]
    careful.kmqd.kill(name)
    until(lambda: len(begun(careful)) == 2, "it comes again")
    assert begun(careful)[0] == begun(careful)[1]
    (careful.folder / "agent.wait").unlink()
    until(lambda: careful.delivered("relay=fax") == 1, "it is faxed")
    until(lambda: not lives(first), "the first program has seen the end of its input")
    careful.kmqd.drain()
    until(lambda: not os.listdir(careful.kmqd.spool / "agents"), "the next worker removes what the dead one left")
    a_reload_brings_another_program(careful)


def test_a_program_that_is_missing(folder: Path) -> None:
    """The queue waits and says why; the program is installed, and the queue goes on."""
    site = Site(folder, "")
    for _ in play(site):
        site.send("49@fax")
        until(lambda: site.queue("fax").get("Status") == "Retry", "the queue waits")
        assert "No such file or directory" in site.queue("fax")["LastError"]
        assert "the connector's program does not run" in site.kmqd.asked("explain", "fax")
        checked = site.kmqd.asked("check")
        assert f"[fax] command = {folder}/agent: No such file or directory" in checked
        program(folder, GOOD)
        until(lambda: site.delivered("relay=fax") == 1, "it is faxed")


def begun(site: Site) -> list[str]:
    """The messages that its programs began with: ID and attempt."""
    return [note for note in notes(site.folder) if note.startswith("begin")]


def a_reload_brings_another_program(careful: Site) -> None:
    """What the old one has it may end; the next message is the new one's."""
    (careful.folder / "agent.wait").touch()
    before = len(begun(careful))
    careful.send("1@fax")
    until(lambda: len(begun(careful)) > before, "the old one has it")
    (careful.folder / "new").mkdir()
    program(careful.folder / "new", GOOD)
    path = careful.kmqd.folder / "kmq.conf"
    path.write_text(path.read_text().replace(f"{careful.folder}/agent", f"{careful.folder}/new/agent"))
    careful.kmqd.asked("reload")
    careful.send("2@fax")
    (careful.folder / "agent.wait").unlink()
    until(lambda: careful.delivered("relay=fax") == 3, "both are faxed")
    assert len(born(careful.folder / "new")) == 1
    until(lambda: not any(map(lives, born(careful.folder))), "the old one is gone")
