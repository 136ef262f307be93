"""An operator's place: a configuration, a spool with messages, and a kmqd that answers when it is wanted."""

import os
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kmq.admin.client import SOCKET
from kmq.admin.control import Control, Line
from kmq.admin.verbs import Arguments
from kmq.cli.kmq import main
from kmq.model.frame import Answer
from kmq.model.outcome import RESULTS
from tests.beside import beside
from tests.mailbag import Mailbag

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = spool
local_domains = example.org

[mx : receiver]
listen = 127.0.0.1:{port}

[isp : connector]
type = smarthost
address_spaces = *
hosts = {hosts}

[boxes : connector]
type = mailbox
maildir = mail/{{user}}
"""


@dataclass
class Place:
    """path: of the configuration; run: one call of kmq in this process -> (exit status, output, errors)."""

    path: Path
    bag: Mailbag
    capture: "pytest.CaptureFixture[str]"

    @property
    def spool(self) -> Path:
        return self.bag.spool

    def configure(self, port: int = 2525, hosts: str = "smtp.isp.example:587") -> None:
        self.path.write_text(CONFIGURATION.format(port=port, hosts=hosts))

    def run(self, *words: str) -> tuple[int, str, str]:
        self.capture.readouterr()
        try:
            status = main(["-c", str(self.path), *words])
        except SystemExit as ended:
            status = int(ended.code or 0)
        out, err = self.capture.readouterr()
        return status, out, err


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    made = Place(tmp_path / "kmq.conf", Mailbag(tmp_path / "spool"), capsys)
    made.configure()
    return made


@dataclass
class Kmqd:
    """The scheduler process's side of the control socket: it answers what a test laid ready, else it obeys."""

    queues: list[dict[str, object]] = field(default_factory=list)
    answers: dict[str, list[Line | Answer]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def ask(self, verb: str, arguments: Arguments, _: int) -> AsyncIterator[Line | Answer]:
        self.asked.append((verb, dict(arguments)))
        for line in self.queues if verb == "queues" else self.answers.get(verb, _obeyed(verb, arguments)):
            yield line


def _obeyed(verb: str, arguments: Arguments) -> list[Line | Answer]:
    names = arguments.get("ids")
    if verb not in RESULTS or not isinstance(names, list):
        return [Answer(status=0, text="done")]
    return [*({"ID": name, "Result": RESULTS[verb]} for name in names), Answer(status=0)]


@pytest.fixture
def kmqd(place: Place) -> Iterator[Kmqd]:
    told = Kmqd()
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(place.spool / "run")
    listener.bind(SOCKET)
    os.chdir(here)
    listener.listen()
    control = Control(told.ask)
    with beside() as thread:
        thread.run(control.serve(listener))
        yield told
        thread.run(control.close())
