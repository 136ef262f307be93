"""What `kmq check` and `kmq doctor` say of connectors that bring mail to users of this machine."""

import os
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.admin import doctor_reach
from kmq.admin.check_mailboxes import mailboxes
from kmq.admin.check_ways import ways
from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings, read
from tests.debian_clamd import ground
from tests.dovecot import dovecot

KMQ = "[kmq]\nlocal_domains = here.test\nspool = spool\n[store : connector]\n"


def settings(folder: Path, store: str) -> Settings:
    return read(KMQ + store, "kmq.conf", str(folder), "mx.here.test")


def told(found: Iterator[Verdict]) -> list[tuple[Grade, str]]:
    return [(one.grade, f"{one.what} -> {one.remedy}") for one in found]


def spool_of_nobody(folder: Path) -> None:
    (folder / "spool").mkdir()
    if os.geteuid() != 0:
        pytest.skip("needs root, to see what another user may")
    os.chown(folder / "spool", 65534, 65534)


def test_a_root_that_is_no_folder(tmp_path: Path) -> None:
    assert told(mailboxes(settings(tmp_path, "type = mailbox\nmaildir = mail/{user}\nusers = *\n"))) == []
    (tmp_path / "mail").write_text("")
    ((grade, text),) = told(mailboxes(settings(tmp_path, "type = mailbox\nmbox = mail/{user}\nusers = *\n")))
    assert grade is Grade.WRONG and "is no folder" in text


def test_kmqd_has_to_be_able_to_write_there(tmp_path: Path) -> None:
    spool_of_nobody(tmp_path)
    (tmp_path / "mail").mkdir(0o755)
    ((grade, text),) = told(mailboxes(settings(tmp_path, "type = mailbox\nmbox = mail/{user}\n")))
    assert grade is Grade.WRONG and "locks are made beside each mbox: mail waits" in text
    assert f"chgrp kmq {tmp_path}/mail && chmod g+ws {tmp_path}/mail" in text
    assert told(mailboxes(settings(tmp_path, "type = mailbox\nmaildir = mail/{user}\n"))) == [], "those that exist"
    (tmp_path / "mail").chmod(0o777)
    assert told(mailboxes(settings(tmp_path, "type = mailbox\nmbox = mail/{user}\n"))) == []


def test_a_command_has_to_be_there_and_nobody_else_s(tmp_path: Path) -> None:
    program = tmp_path / "deliver"
    pipe = f"type = pipe\nusers = *\ncommand = {program} {{user}}\n"
    ((grade, text),) = told(ways(settings(tmp_path, pipe)))
    assert grade is Grade.WRONG and "No such file or directory" in text
    program.write_text("#!/bin/sh\n")
    program.chmod(0o757)
    ((grade, text),) = told(ways(settings(tmp_path, pipe)))
    assert grade is Grade.WRONG and "everybody may change it" in text
    program.chmod(0o755)
    assert told(ways(settings(tmp_path, pipe))) == [(Grade.GOOD, f"[store] {program} -> ")]


@pytest.fixture
def open_ground() -> Iterator[Path]:
    with ground() as folder:
        yield folder


def test_a_socket_has_to_be_one_that_kmqd_may_use(open_ground: Path) -> None:
    spool_of_nobody(open_ground)
    lmtp = "type = lmtp\nusers = *\nsocket = lmtp\n"
    ((grade, text),) = told(mailboxes(settings(open_ground, lmtp)))
    assert grade is Grade.WRONG and "No such file or directory: mail waits" in text
    (open_ground / "lmtp").write_text("")
    ((_, text),) = told(mailboxes(settings(open_ground, lmtp)))
    assert "is no socket" in text
    (open_ground / "lmtp").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(open_ground / "lmtp"))
        (open_ground / "lmtp").chmod(0o600)
        ((_, text),) = told(mailboxes(settings(open_ground, lmtp)))
        assert "unix_listener" in text
        (open_ground / "lmtp").chmod(0o666)
        assert told(mailboxes(settings(open_ground, lmtp))) == []
        os.chown(open_ground / "lmtp", 0, pwd.getpwuid(65534).pw_gid)
        (open_ground / "lmtp").chmod(0o660)
        assert told(mailboxes(settings(open_ground, lmtp))) == [], "his group's, as Dovecot is told: group = kmq"


def test_whoever_gets_the_rest_has_to_be_somebody(tmp_path: Path) -> None:
    text = "type = mailbox\nmaildir = mail/{user}\nusers = alice\ncatch_all = "
    ((grade, said),) = told(mailboxes(settings(tmp_path, text + "bob\n")))
    assert grade is Grade.WRONG and "kmq.conf:8: [store] catch_all = bob is nobody in here.test" in said
    assert told(mailboxes(settings(tmp_path, text + "alice\n"))) == []


def test_the_doctor_asks_the_server_of_mailboxes(tmp_path: Path) -> None:
    lmtp = "type = lmtp\nusers = *\nsocket = "
    ((grade, text),) = told(doctor_reach.servers(settings(tmp_path, f"{lmtp}{tmp_path}/none\n"), ""))
    assert grade is Grade.WRONG and f"server {tmp_path}/none cannot be reached: No such file" in text
    assert "start the server of mailboxes" in text, "a socket has no firewall and no port"
    with dovecot({}) as store:
        ((grade, text),) = told(doctor_reach.servers(settings(tmp_path, f"{lmtp}{store.socket}\n"), ""))
    assert grade is Grade.GOOD and text.startswith(f"server {store.socket} says 220 ")
