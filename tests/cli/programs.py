"""kmq-sendmail as a real process, and the receiver's side of its socket in this one."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kmq.config import load
from kmq.config.sections import SendmailSection
from kmq.intake.local import LocalSmtpd, as_receiver
from kmq.intake.pace import Pace
from kmq.routing.table import Routes
from tests.beside import beside
from tests.intake.doors import MemoryDoor, Message

CONFIGURATION = """\
[kmq]
hostname = mx.us.test
spool = spool
local_domains = us.test
alias_files = aliases
[sendmail]
socket = submit.sock
[boxes : connector]
type = mailbox
maildir = mail/{user}
users = alice, bob, carol, extra, secret
[isp : connector]
type = smarthost
address_spaces = *.test
hosts = smtp.isp.test
"""

ALIASES = "everybody: alice, bob, x@far.test\n"

PROGRAM = (sys.executable, "-P", "-m", "kmq.cli.sendmail")


class Machine:
    """A machine with a configuration, and a kmqd's way in when it is open."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "submit.sock"
        self.door = MemoryDoor()
        (folder / "kmq.conf").write_text(CONFIGURATION)
        (folder / "spool").mkdir()
        (folder / "aliases").write_text(ALIASES)

    @property
    def messages(self) -> list[Message]:
        return self.door.messages

    @property
    def recipients(self) -> list[str]:
        """Of the last message."""
        return [one.address for one in self.messages[-1].head.recipients]

    @contextmanager
    def opened(self, **options: Any) -> Iterator[LocalSmtpd]:
        """The receiver is there; options: of [sendmail]."""
        section = SendmailSection(socket="", **{"trusted_users": (), **options})
        smtpd = LocalSmtpd(as_receiver(section), "mx.us.test", Routes(load(str(self.folder / "kmq.conf"))), self.door)
        smtpd.tick = 0.05
        smtpd.settle(section, Pace(1))
        listener = socket.socket(socket.AF_UNIX)
        self.path.unlink(missing_ok=True)
        listener.bind(str(self.path))
        self.path.chmod(0o666)
        listener.listen(128)
        with beside() as thread:
            thread.run(smtpd.serve([listener]))
            try:
                yield smtpd
            finally:
                thread.run(smtpd.close(0))

    def start(self, *words: str, **popen: Any) -> "subprocess.Popen[bytes]":
        """The program, begun; its three streams are pipes unless said otherwise."""
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "KMQ_CONF": str(self.folder / "kmq.conf")}
        environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        environment |= popen.pop("env", {})
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        command = popen.pop("command", PROGRAM)
        return subprocess.Popen([*command, *words], cwd=self.folder, env=environment, **{**pipes, **popen})

    def sendmail(self, text: bytes | str, *words: str, **popen: Any) -> tuple[int, str]:
        """One whole run -> exit status, what it said on standard error and output."""
        program = self.start(*words, **popen)
        out, err = program.communicate(text.encode() if isinstance(text, str) else text, 60)
        return program.returncode, (err + out).decode()
