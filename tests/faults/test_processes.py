"""A real kmqd whose processes die, stand still, or lack descriptors at a bad moment; and whose clock goes wrong."""

import random
import resource
import signal
import smtplib
import socket
import struct
import time
from pathlib import Path

import pytest

from tests.faults.injection import injected
from tests.faults.world import SENDER, World, world
from tests.torture.kmqd import NO_DROPS
from tests.waiting import until


def test_a_worker_dies_at_each_stage_of_a_conversation(here: World) -> None:
    """Rows 36 and 54: only from the final dot on may the other side get a second copy."""
    for stage in ("rcpt", "data", "body", "dot"):
        address = f"hang-at-{stage}-1.x@far.test"
        until(lambda: not here.hop.silent, "it answers")
        assert here.send(address, size=4000).startswith("250")
        until(lambda: here.hop.silent, "the hop is silent there")
        if stage == "dot":
            until(lambda: here.copies().get(here.tokens[-1]), "all of it is sent")
        here.kmqd.kill("worker-1")
        copies = 2 if stage == "dot" else 1
        until(lambda wanted=copies: here.copies().get(here.tokens[-1]) == wanted, "its successor delivers it")
    here.tokens.pop()
    here.each_once()


def test_a_worker_that_stands_still_has_its_message_to_itself(tmp_path: Path) -> None:
    """Row 35: who holds a message is the process that lives, however long it says nothing."""
    with world(tmp_path / "k", workers=2) as here:
        here.hop.banner = "hang"
        assert here.send().startswith("250")
        until(lambda: here.hop.connections == 1 and holders(here), "a worker has it, and shows it")
        [name] = holders(here)
        here.kmqd.kill(name, signal.SIGSTOP)
        here.hop.banner = "220 evil.test"
        for _ in range(20):
            assert here.send("bob@local.test").startswith("250")
        del here.tokens[1:]
        until(lambda: len(boxed(here)) >= 8, "the other one goes on")
        assert here.copies() == {} and here.hop.connections == 1
        here.kmqd.kill(name, signal.SIGCONT)
        here.hang_up()
        here.each_once()
        assert len(boxed(here)) == 20


def boxed(here: World) -> list[Path]:
    return list((here.kmqd.mail / "bob/new").glob("*"))


def holders(here: World) -> list[str]:
    """Workers that show something in their hands."""
    shown = {name: here.kmqd.status(name) for name in ("worker-1", "worker-2")}
    return [name for name, status in shown.items() if status is not None and status.in_hand]


def test_a_receiver_dies_at_each_step_of_a_large_message(here: World, tmp_path: Path) -> None:
    """Row 3: its client hears no 250 and nobody answers for it; the file is there whole for a message, or goes."""
    spool = here.kmqd.spool
    steps = {
        "the file begins": ("openat", spool),  # the folder from which its name is said
        "the file is synced": ("fsync", ""),
        "its folder is opened": ("openat", "incoming"),
        "its folder is synced": ("fsync", spool / "incoming"),
    }
    for step, (call, of) in steps.items():
        receiver = here.kmqd.children()["receiver-1"]
        with injected(receiver, call, "signal=SIGKILL:when=1", tmp_path / step, of):
            with pytest.raises((smtplib.SMTPException, OSError)):
                here.send(size=200_000)
            until(lambda: here.kmqd.children().get("receiver-1") != receiver, "it is dead")  # noqa: B023
        here.kmqd.ready()
    assert here.send(size=200_000).startswith("250")
    here.each_once()
    assert set(here.copies().values()) == {1}
    until(lambda: not list((here.kmqd.spool / "incoming").iterdir()), "nothing of it is left", 30)


def test_a_client_that_goes_right_behind_the_dot(here: World) -> None:
    """Rows 14, 15 and 17: the message is kept whole and once, or not at all; nobody is the worse for it."""
    chance = random.Random(3)
    for number in range(50):
        client = here.client()
        client.ehlo()
        client.mail(SENDER)
        client.rcpt("bob@far.test")
        client.docmd("DATA")
        whole = b"Message-ID: <gone-%d>\r\n\r\nx\r\n.\r\n" % number
        client.send(whole if number % 5 else whole[: chance.randrange(len(whole))])
        assert client.sock is not None
        if chance.random() < 0.5:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST
        time.sleep(chance.uniform(0, 0.005))
        client.close()
    assert here.send().startswith("250")
    here.each_once()
    assert set(here.copies().values()) == {1}
    assert not any(f"<gone-{number}>" in here.copies() for number in range(0, 50, 5))
    assert all(message.body.endswith(b"\r\n\r\nx\r\n") for message in here.hop.messages[:-1])


@pytest.mark.parametrize("role", ["worker-1", "scheduler-1"])
def test_without_descriptors_mail_waits_and_goes_on(here: World, role: str) -> None:
    """Row 11: in connect, and for the files of the queue."""
    assert here.send().startswith("250")
    here.kmqd.drain()
    here.hang_up()
    until(lambda: here.hop.open == 0, "no connection is kept")
    pid = here.kmqd.children()[role]
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))  # what is open stays open
    here.hop.banner = "421 4.3.2 not now" if role == "scheduler-1" else here.hop.banner
    answers = [here.send() for _ in range(5)]
    assert {answer[:3] for answer in answers} <= {"250", "451", "452"}
    if role == "worker-1":
        until(lambda: "Too many open files" in here.log, "it is told")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    here.hop.banner = "220 evil.test"
    until(lambda: here.send().startswith("250"), "mail is taken again")
    here.each_once()
    assert here.kmqd.children()[role] == pid, "it lives on"


#: With it a cycle of retries, in which no jump is believed, is longer than this test.
PATIENT = f"""{NO_DROPS}

[patient : connector]
type = smarthost
address_spaces = patient.test
hosts = 127.0.0.1
retry_profile = exchange
"""


def test_the_clock_goes_wrong(tmp_path: Path) -> None:
    """Row 38, on real processes: a month ahead, two days back and 1972 while kmqd runs; a year ahead when it
    starts; nothing expires, nothing comes twice, no ID is given twice."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    with world(tmp_path / "k", drops=PATIENT, within={"KMQ_CLOCK": str(clock)}) as here:
        here.hop.banner = "421 4.3.2 not now"
        answers = [here.send()]
        for days in (30, -2, -20_000):
            clock.write_text(str(days * 86400))
            answers += [here.send()]
            tries = here.hop.connections
            until(lambda tries=tries: here.hop.connections > tries, "it is tried as before")
        here.kmqd.kill_all()
        clock.write_text(str(365 * 86400))
        here.kmqd.start()
        answers += [here.send()]
        here.kmqd.kill_all()
        clock.write_text("0")
        here.kmqd.start()
        here.hop.banner = "220 evil.test"
        assert {answer[:3] for answer in answers} == {"250"} and len(set(answers)) == len(answers)
        here.each_once()
        assert not list((here.kmqd.mail / "alice").glob("new/*")), "nobody was told of anything"
