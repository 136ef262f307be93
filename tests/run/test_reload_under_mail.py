"""The configuration changes while mail flows through a real kmqd: nothing is lost, doubled, or routed by two of them.

`kmq reload` says what came of it.
"""

import re
import signal
import smtplib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes import EvilHop
from tests.waiting import free_port, listening, until

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = {folder}/spool
local_domains = example.org
workers = {workers}
receivers = {receivers}
[queue]
minimum_free = 1M
{queue}
connection_retry_interval = 1h
[smtp : receiver]
listen = {listen}
relay_from = 127.0.0.1
[{mailboxes} : connector]
type = mailbox
maildir = {folder}/{mailboxes}/{{user}}
users = alice, bob, carol
{more}
"""

TREE = Path(__file__).resolve().parents[2]


class Here:
    """A real kmqd, and how it is told of a new configuration."""

    def __init__(self, folder: Path, **values: object) -> None:
        self.folder = folder
        (folder / "spool").mkdir(0o750)
        self.port = free_port()
        usual = {"mailboxes": "first", "workers": 3, "receivers": 1, "queue": "", "more": ""}
        self.values: dict[str, object] = {"listen": f"127.0.0.1:{self.port}", **usual, **values}
        self.path = folder / "kmq.conf"
        self.count = 1
        self.configure()

    def configure(self, **values: object) -> None:
        self.values |= values
        self.path.write_text(CONFIGURATION.format(folder=self.folder, **self.values))

    def reload(self, **values: object) -> None:
        """Returns when it counts."""
        self.configure(**values)
        self.count += 1
        self.process.send_signal(signal.SIGHUP)
        until(lambda: re.search(rf"reloaded .*configuration={self.count} ", self.log), "it counts")

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @contextmanager
    def running(self) -> Iterator[None]:
        command = [sys.executable, "-P", "-m", "kmq.cli.kmqd", "-c", str(self.path)]
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen(command, stderr=log, start_new_session=True)
        try:
            until(lambda: " ready pid=" in self.log, "it is ready")
            yield
        finally:
            self.process.terminate()
            assert self.process.wait(60) == 0

    def kmq(self, *words: str) -> tuple[int, str]:
        """An operator's command; -> its exit status and all that it said."""
        command = [sys.executable, "-P", "-m", "kmq.cli.kmq", "-c", str(self.path), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def delivered(self, mailboxes: str) -> Counter[str]:
        """Subject -> copies in these mailboxes."""
        found: Counter[str] = Counter()
        for path in (self.folder / mailboxes).glob("*/new/*"):
            subject = re.search(rb"^Subject: (.*)$", path.read_bytes(), re.MULTILINE)
            assert subject
            found[subject[1].decode()] += 1
        return found


class Senders:
    """Clients that send as fast as they can; taken: the subjects that had their 250, in order."""

    def __init__(self, port: int, count: int = 2) -> None:
        self.taken: list[str] = []
        self._port = port
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(count)]

    def _send(self, number: int) -> None:
        sent = 0
        while not self._done.is_set():
            try:
                with smtplib.SMTP("127.0.0.1", self._port, local_hostname="client.example", timeout=60) as client:
                    while not self._done.is_set():
                        subject = f"{number}-{sent}"
                        sent += 1
                        to = [f"{user}@example.org" for user in ("alice", "bob", "carol")]
                        client.sendmail("dave@example.net", to, f"Subject: {subject}\r\n\r\nx\r\n")
                        self.taken.append(subject)
            except (smtplib.SMTPException, OSError):
                continue  # a receiver said 421: this one was not taken

    def __enter__(self) -> "Senders":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(60)


def test_every_message_goes_by_one_configuration_and_arrives_once(tmp_path: Path) -> None:
    """Numbers of processes change too; whatever was taken after a reload counted goes by the new one."""
    here = Here(tmp_path)
    after: dict[str, list[str]] = {"first": [], "second": []}
    with here.running(), Senders(here.port) as senders:
        for round in range(8):
            name = ("second", "first")[round % 2]
            here.reload(mailboxes=name, workers=2 + round % 3, receivers=1 + round % 2)
            began = len(senders.taken)
            until(lambda: len(senders.taken) >= began + 20, "mail flows")  # noqa: B023
            after[name] += senders.taken[began + 2 : began + 18]  # not those that two clients had begun before
        senders.__exit__()
        total = len(senders.taken)
        until(lambda: sum((here.delivered("first") + here.delivered("second")).values()) >= 3 * total, "all arrive", 60)
    first, second = here.delivered("first"), here.delivered("second")
    assert set(first) & set(second) == set(), "no message went by two configurations"
    assert set((first + second).values()) == {3}, "each copy arrived once"
    assert set(first + second) >= set(senders.taken)
    assert set(after["first"]) <= set(first) and set(after["second"]) <= set(second)
    assert not re.search("error|Traceback", here.log)


def test_what_waits_for_a_server_that_was_replaced_goes_to_the_new_one(tmp_path: Path) -> None:
    isp = "[isp : connector]\ntype = smarthost\naddress_spaces = *\nhosts = 127.0.0.1:{}\n"
    here = Here(tmp_path, more=isp.format(free_port()))
    hop = EvilHop()
    with hop.threaded(), here.running():
        with smtplib.SMTP("127.0.0.1", here.port, timeout=60) as client:
            client.sendmail("a@example.org", ["b@example.net"], "Subject: waits\r\n\r\nx\r\n")
        until(lambda: "Retry" in here.kmq("queues")[1], "its server is away")
        other = isp.format(hop.address[1]).replace("[isp", "[other")
        here.reload(more=other)
        until(lambda: hop.delivered("b@example.net"), "another connector takes it, without waiting for an hour")
    assert hop.delivered("b@example.net") == 1


def test_what_nobody_served_goes_when_somebody_does(tmp_path: Path) -> None:
    here = Here(tmp_path)
    hop = EvilHop()
    with hop.threaded(), here.running():
        with smtplib.SMTP("127.0.0.1", here.port, timeout=60) as client:
            client.sendmail("a@example.org", ["b@example.net"], "Subject: nowhere\r\n\r\nx\r\n")
        isp = f"[isp : connector]\ntype = smarthost\naddress_spaces = *\nhosts = 127.0.0.1:{hop.address[1]}\n"
        here.reload(more=isp)
        until(lambda: hop.delivered("b@example.net"), "it goes")


def test_what_was_routed_just_before_is_routed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's word that nobody serves an address is not durable yet when a configuration counts that does."""
    gate = tmp_path / "gate"  # while it is there, no sync of the journal ends
    monkeypatch.setenv("KMQ_GATE", str(gate))
    monkeypatch.setenv("PYTHONPATH", f"{TREE / 'tests' / 'torture' / 'within'}:{TREE}")
    here = Here(tmp_path)
    hop = EvilHop()
    with hop.threaded(), here.running():
        isp = f"[isp : connector]\ntype = smarthost\naddress_spaces = *\nhosts = 127.0.0.1:{hop.port}\n"
        for number in range(8):
            with smtplib.SMTP("127.0.0.1", here.port, timeout=60) as client:
                client.sendmail("a@example.org", [f"b{number}@example.net"], "Subject: nowhere\r\n\r\nx\r\n")
                gate.touch()
            here.reload(more=isp)
            gate.unlink()
            until(lambda: hop.delivered(f"b{number}@example.net"), "it goes")  # noqa: B023
            here.reload(more="")


def test_a_listener_moves_and_whoever_talks_on_the_old_one_talks_on(tmp_path: Path) -> None:
    here = Here(tmp_path)
    moved = free_port()
    with here.running():
        old = smtplib.SMTP("127.0.0.1", here.port, timeout=60)
        here.reload(listen=f"127.0.0.1:{moved}")
        until(lambda: not listening(here.port), "nobody comes in by the old one")
        with smtplib.SMTP("127.0.0.1", moved, timeout=60) as new:
            for client, subject in ((old, "old"), (new, "new")):
                client.sendmail("a@example.net", ["alice@example.org"], f"Subject: {subject}\r\n\r\nx\r\n")
        old.quit()
        until(lambda: set(here.delivered("first")) == {"old", "new"}, "both arrive")


def test_the_operator_hears_what_came_of_it(tmp_path: Path) -> None:
    here = Here(tmp_path)
    with here.running():
        here.configure(workers=2, queue="per_hop = 0")
        status, told = here.kmq("reload")
        assert status == 78 and re.search(r"kmq\.conf:9: .*per_hop", told)
        here.configure(queue="durability = files")
        status, told = here.kmq("reload")
        assert status == 0 and "[kmq] workers" in told and "[queue] durability" in told
        here.configure(listen=f"127.0.0.1:{here.port}, 192.0.2.1:25")
        status, told = here.kmq("reload")
        assert status == 75 and "192.0.2.1:25: this machine does not have that address" in told
