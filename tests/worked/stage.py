"""A stage for worked examples: one kmqd in a folder of its own, and a shell beside it.

In the documents the machine is mx.example.org; its configuration lies in /etc/kmq, its spool in /var/spool/kmq. It
listens on 127.0.0.1:2525, its smart host for partner.example is 127.0.0.1:2526, that for gone.example 127.0.0.1:2527,
its resolver 127.0.0.1:5353, and its messages are 69212ad0-00000001 and so on, in the order in which they came. What a
test really uses differs, and is exchanged both ways.
"""

import json
import os
import re
import smtplib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from pwd import getpwuid

from tests.waiting import free_port, until
from tests.worked.unit import Unit

PROGRAMS = Path(sys.executable).parent
USER = getpwuid(os.getuid()).pw_name  #: who is root in the documents
PATIENCE = 20  #: seconds for a command
SECONDS = "69212ad0"  #: of every ID in the documents

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = /var/spool/kmq
local_domains = example.org
workers = 1
dns_servers = 127.0.0.1:5353

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
        # Of four digits, as in the documents, so that columns are as wide, and in this order.
        self.smtp, self.hop, self.other, self.dns = sorted(free_port(lowest=2600, above=10000) for _ in range(4))
        self.unit = Unit([PROGRAMS / "kmqd", "-c", folder / "etc" / "kmq.conf"], folder, folder / "log")
        (folder / "spool").mkdir()
        (folder / "etc").mkdir()
        (folder / "log").touch()
        self.configure(CONFIGURATION)

    def configure(self, text: str) -> None:
        """Writes the configuration, as the documents would have it."""
        self.write("kmq.conf", text)

    def write(self, name: str, text: str) -> None:
        """A file in /etc/kmq."""
        (self.folder / "etc" / name).write_text(self._real(text))

    # --- mail ---

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
        if command.startswith("systemctl "):
            return self.unit.systemctl(command.split()[1:])
        path = f"{PROGRAMS}:{os.environ.get('PATH', '')}"
        environment = {**os.environ, "KMQ_CONF": str(self.folder / "etc/kmq.conf"), "PATH": path, "TZ": "UTC"}
        environment |= {"COLUMNS": "120", "LC_ALL": "C.UTF-8"}
        try:
            done = subprocess.run(
                ["sh", "-c", self._real(command)], cwd=self.folder, env=environment, text=True, timeout=PATIENCE,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return [f"(this does not end within {PATIENCE} s)"]
        return self._shown(done.stdout).splitlines()

    def _names(self) -> Iterator[tuple[str, str]]:
        """(in the documents, here)"""
        yield "/var/spool/kmq", f"{self.folder}/spool"
        yield "/etc/kmq", f"{self.folder}/etc"
        yield "/var/log/kmq.log", f"{self.folder}/mail.log"
        yield "/srv", f"{self.folder}"
        yield "127.0.0.1:2525", f"127.0.0.1:{self.smtp}"
        yield "127.0.0.1:2526", f"127.0.0.1:{self.hop}"
        yield "127.0.0.1:2527", f"127.0.0.1:{self.other}"
        yield "127.0.0.1:5353", f"127.0.0.1:{self.dns}"
        yield "127.0.0.1[127.0.0.1]:2526", f"127.0.0.1[127.0.0.1]:{self.hop}"
        yield "127.0.0.1[127.0.0.1]:2527", f"127.0.0.1[127.0.0.1]:{self.other}"

    def _real(self, text: str) -> str:
        for shown, real in self._names():
            text = text.replace(shown, real)
        text = text.replace(f"queue/{SECONDS[:5]}-", f"queue/{self._id('00000001')[:5]}-")
        return re.sub(rf"{SECONDS}-([0-9a-f]{{8}})", lambda found: self._id(found[1]), text)

    def _shown(self, text: str) -> str:
        for shown, real in self._names():
            text = text.replace(real, shown)
        text = re.sub(r"\bqueue/[0-9a-f]{5}-0000\b", f"queue/{SECONDS[:5]}-0000", text)
        text = re.sub(rf"\b(by |user=|from=<){re.escape(USER)}\b", r"\1root", text)
        return re.sub(r"\b[0-9a-f]{8}-(0000[0-9a-f]{4})\b", rf"{SECONDS}-\1", text)

    def _id(self, counter: str) -> str:
        """The ID of a message that is, or was, in the queue: the log knows all."""
        logs = (self.folder / name for name in ("log", "mail.log"))
        said = "".join(log.read_text() for log in logs if log.exists())
        found = re.search(rf"\b[0-9a-f]{{8}}-{counter}\b", said)
        return found[0] if found else f"{SECONDS}-{counter}"
