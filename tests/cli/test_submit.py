"""`kmq submit`: a message from a file, and what became of it."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.programs import Machine

KMQ = (sys.executable, "-P", "-m", "kmq.cli.kmq", "submit")
LETTER = "From: Alice <alice>\nTo: bob, carol@far.test\nBcc: secret\nSubject: hello\n\n.\nworld\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "letter.eml").write_text(LETTER)
    return Machine(tmp_path)


@pytest.fixture
def kmqd(machine: Machine) -> Iterator[None]:
    with machine.opened():
        yield


def test_a_file_goes_to_those_of_its_header(machine: Machine, kmqd: None) -> None:
    status, said = machine.sendmail("", "letter.eml", command=KMQ)
    assert (status, said) == (0, f"{machine.messages[0].id} is in the queue\n")
    assert machine.recipients == ["bob@us.test", "carol@far.test", "secret@us.test"]
    assert b"Bcc" not in machine.messages[0].body
    assert machine.messages[0].body.endswith(b"\r\n\r\n.\r\nworld\r\n")


def test_sender_and_recipients_may_be_named(machine: Machine, kmqd: None) -> None:
    words = ["--from", "<>", "--to", "alice", "--to", "Bob <bob>", "-", "--json"]
    status, said = machine.sendmail(LETTER, *words, command=KMQ)
    assert (status, json.loads(said)) == (0, {"Identity": machine.messages[0].id})
    assert machine.messages[0].head.sender == ""
    assert machine.recipients == ["alice@us.test", "bob@us.test"]
    assert b"Bcc: secret@us.test" in machine.messages[0].body, "the header names nobody here, so nothing of it goes"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nowhere.eml"], 1, "nowhere.eml: No such file or directory; nothing was sent"),
        (["."], 1, "cannot be read: Is a directory; nothing was sent"),
        (["--to", "nobody", "letter.eml"], 1, "kmq: nobody: 550 5.1.1 "),
        (["--to", "a b", "letter.eml"], 2, "'a b' is no address"),
        (["--from", "a, b", "letter.eml"], 2, "is not one address"),
        (["empty.eml"], 2, "nobody is named: neither by --to nor in the header"),
        (["cr.eml"], 1, "a CR that ends no line"),
    ],
)
def test_what_cannot_be_sent(machine: Machine, kmqd: None, words: list[str], status: int, said: str) -> None:
    (machine.folder / "empty.eml").touch()
    (machine.folder / "cr.eml").write_bytes(b"To: bob\n\na\rb\n")
    ended, told = machine.sendmail("", *words, command=KMQ)
    assert (ended, said in told) == (status, True), told
    assert machine.messages == []


def test_without_a_socket_nothing_can_be_sent(machine: Machine) -> None:
    configuration = (machine.folder / "kmq.conf").read_text().replace("socket = submit.sock", "socket =")
    (machine.folder / "kmq.conf").write_text(configuration)
    status, said = machine.sendmail("", "letter.eml", command=KMQ)
    assert status == 78 and "kmq.conf: [sendmail] socket is empty, so kmqd takes no mail from programs" in said
    status, said = machine.sendmail(LETTER, "bob")
    assert status == os.EX_UNAVAILABLE and "[sendmail] socket is empty" in said
