"""The scenes in which worked examples play: one kmqd each, with the mail that the documents speak of.

In the documents the machine is mx.example.org; its configuration lies in /etc/kmq, its spool in /var/spool/kmq, it
listens on 127.0.0.1:2525, its smart host for partner.example is 127.0.0.1:2526, and its messages are 69212ad0-00000001
and so on, in the order in which they came. What a test really uses differs, and is exchanged both ways.
"""

import json
import os
import re
import signal
import smtplib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from tests.fakes import EvilHop
from tests.waiting import free_port, listening, until

PROGRAMS = Path(sys.executable).parent
SECONDS = "69212ad0"  #: of every ID in the documents

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = /var/spool/kmq
local_domains = example.org
workers = 1

[queue]
minimum_free = 0
minimum_free_inodes = 0

[receiver]
relay_from = 127.0.0.0/8

[mx : receiver]
listen = 127.0.0.1:2525

[mailboxes : connector]
type = mailbox
maildir = /var/spool/kmq/mail/{user}
users = alice, bob

[partner : connector]
type = smarthost
hosts = 127.0.0.1:2526
address_spaces = partner.example
"""

LETTER = "From: Alice <alice@example.org>\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nDear friend,\r\nsee you soon.\r\n"


class Scene:
    """A kmqd in a folder of its own, and a shell beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Of four digits, as in the documents, so that columns are as wide.
        self.smtp, self.hop = (free_port(lowest=2600, above=10000) for _ in range(2))
        self._daemon: subprocess.Popen[bytes] | None = None
        (folder / "spool").mkdir()
        (folder / "etc").mkdir()
        (folder / "log").touch()
        self.configure(CONFIGURATION)

    def configure(self, text: str) -> None:
        """Writes the configuration, as the documents would have it."""
        (self.folder / "etc" / "kmq.conf").write_text(self._real(text))

    # --- kmqd ---

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            command = [PROGRAMS / "kmqd", "-c", self.folder / "etc" / "kmq.conf"]
            self._daemon = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stderr=log)
        until(lambda: listening(self.smtp), "kmqd listens")

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.send_signal(signal.SIGTERM)
            self._daemon.wait(60)
            self._daemon = None

    def send(self, to: str, subject: str = "Lunch", sender: str = "alice@example.org", **headers: str) -> None:
        """A letter, durably taken."""
        more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        with smtplib.SMTP("127.0.0.1", self.smtp, timeout=20) as client:
            client.sendmail(sender, [to], more + LETTER.format(to=to, subject=subject))

    def until_mailq(self, true: Callable[[list[dict[str, object]]], object], what: str) -> None:
        """Waits until the queue looks so."""
        until(lambda: true([json.loads(line) for line in self.run("kmq --json mailq")]), what)

    # --- the shell ---

    def run(self, command: str) -> list[str]:
        """The lines that a command of the documents prints, as they would show them; errors among them."""
        path = f"{PROGRAMS}:{os.environ.get('PATH', '')}"
        environment = {**os.environ, "KMQ_CONF": str(self.folder / "etc/kmq.conf"), "PATH": path, "TZ": "UTC"}
        environment |= {"COLUMNS": "120", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            ["sh", "-c", self._real(command)], cwd=self.folder, env=environment, text=True, timeout=60,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        return self._shown(done.stdout).splitlines()

    def _names(self) -> Iterator[tuple[str, str]]:
        """(in the documents, here)"""
        yield "/var/spool/kmq", f"{self.folder}/spool"
        yield "/etc/kmq", f"{self.folder}/etc"
        yield "/var/log/kmq.log", f"{self.folder}/mail.log"
        yield "/srv", f"{self.folder}"
        yield "127.0.0.1:2525", f"127.0.0.1:{self.smtp}"
        yield "127.0.0.1:2526", f"127.0.0.1:{self.hop}"
        yield "127.0.0.1[127.0.0.1]:2526", f"127.0.0.1[127.0.0.1]:{self.hop}"

    def _real(self, text: str) -> str:
        for shown, real in self._names():
            text = text.replace(shown, real)
        text = text.replace(f"queue/{SECONDS[:5]}-", f"queue/{self._id('00000001')[:5]}-")
        return re.sub(rf"{SECONDS}-([0-9a-f]{{8}})", lambda found: self._id(found[1]), text)

    def _shown(self, text: str) -> str:
        for shown, real in self._names():
            text = text.replace(real, shown)
        text = re.sub(r"\bqueue/[0-9a-f]{5}-0000\b", f"queue/{SECONDS[:5]}-0000", text)
        return re.sub(r"\b[0-9a-f]{8}-(0000[0-9a-f]{4})\b", rf"{SECONDS}-\1", text)

    def _id(self, counter: str) -> str:
        """The ID of a message that is, or was, in the queue: the log knows all."""
        logs = (self.folder / name for name in ("log", "mail.log"))
        said = "".join(log.read_text() for log in logs if log.exists())
        found = re.search(rf"\b[0-9a-f]{{8}}-{counter}\b", said)
        return found[0] if found else f"{SECONDS}-{counter}"


@contextmanager
def quiet(folder: Path) -> Iterator[Scene]:
    """kmqd runs, and its queue is empty."""
    scene = Scene(folder)
    scene.start()
    try:
        yield scene
    finally:
        scene.stop()


@contextmanager
def stopped(folder: Path) -> Iterator[Scene]:
    """kmqd does not run; it is configured."""
    scene = Scene(folder)
    try:
        yield scene
    finally:
        scene.stop()


@contextmanager
def busy(folder: Path) -> Iterator[Scene]:
    """1 waits for partner.example, whose server is down; 2 has nowhere to go; 3, for partner.example too, is held."""
    with quiet(folder) as scene:
        scene.send("carol@partner.example", "Offer")
        scene.until_mailq(lambda queue: queue and queue[0].get("LastError"), "the first one was tried")
        scene.send("dave@nowhere.example", "Greetings")
        scene.send("erin@partner.example", "Bill", sender="bob@example.org")
        scene.until_mailq(lambda queue: len(queue) == 3, "three messages wait")
        scene.run(f"kmq suspend {SECONDS}-00000003 --reason 'the bill is wrong'")
        scene.until_mailq(lambda queue: all(one["Status"] != "Active" for one in queue), "nothing moves")
        yield scene


@contextmanager
def flowing(folder: Path) -> Iterator[Scene]:
    """partner.example's server takes everything; 1 was delivered to it, 2 to alice."""
    with ExitStack() as stack:
        scene = stack.enter_context(stopped(folder))
        stack.enter_context(EvilHop(port=scene.hop).threaded())
        scene.start()
        scene.send("carol@partner.example", "Offer")
        scene.send("alice@example.org", "Hello", sender="carol@partner.example")
        scene.until_mailq(lambda queue: not queue, "both are delivered")
        yield scene


@contextmanager
def logged(folder: Path) -> Iterator[Scene]:
    """Mail has a log of its own; 1 was delivered to partner.example, 2 refused there, and 3 tells Alice so."""
    with ExitStack() as stack:
        scene = stack.enter_context(stopped(folder))
        stack.enter_context(EvilHop(port=scene.hop).threaded())
        scene.configure(CONFIGURATION.replace("workers = 1\n", "workers = 1\nmail_log = /var/log/kmq.log\n"))
        scene.start()
        scene.send("carol@partner.example", "Offer")
        scene.send("550-at-rcpt@partner.example", "Bill")
        until(lambda: scene.run("grep -c ' delivered ' /var/log/kmq.log") == ["2"], "the second notice is delivered")
        yield scene


@contextmanager
def renamed(folder: Path) -> Iterator[Scene]:
    """kmqd does not run; at home everybody is in example.lan, and partner.example shall not see it."""
    with stopped(folder) as scene:
        more = "[outside : rewrite]\nconnectors = partner\naddresses =\n  file:generic\n  @*.example.lan @example.org\n"
        scene.configure(f"{CONFIGURATION}\n{more}")
        (folder / "etc" / "generic").write_text("root@ postmaster@example.org\n@example.lan @example.org\n")
        yield scene


SCENES: dict[str, Callable[[Path], AbstractContextManager[Scene]]] = {
    "quiet": quiet,
    "stopped": stopped,
    "busy": busy,
    "flowing": flowing,
    "logged": logged,
    "renamed": renamed,
}
