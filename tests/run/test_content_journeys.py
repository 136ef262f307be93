"""A real kmqd that takes attachments out of mail, and survives mail that its examiner dies of."""

import email
import email.policy
import os
import smtplib
import zipfile
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import cast

import pytest

from tests.phases import bombs
from tests.phases.bombs import TEXT, attachment, in_mail, multipart, zipped
from tests.torture.kmqd import NO_DROPS, Kmqd
from tests.waiting import until

MORE = """

[content]
forward_original = admin@local.test
warn_sender = yes
memory = 16M
archive_files = 100000
[exe : attachment]
names = *.exe
"""


@pytest.fixture
def kmqd(tmp_path: Path) -> Iterator[Kmqd]:
    made = Kmqd(tmp_path, workers=1, drops=NO_DROPS + MORE)
    made.names = lambda: ["scheduler-1", "index-1", "worker-1", "receiver-1"]  # type: ignore[method-assign]
    with made.running():
        yield made


def send(kmqd: Kmqd, body: bytes, to: str = "alice@local.test") -> None:
    with smtplib.SMTP("127.0.0.1", kmqd.port, timeout=60) as client:
        client.sendmail("bob@local.test", [to], body)


def mailbox(kmqd: Kmqd, user: str, count: int = 1) -> list[EmailMessage]:
    folder = kmqd.mail / user / "new"
    until(lambda: folder.is_dir() and len(os.listdir(folder)) == count, f"{user} has {count} messages")
    found = [one.read_bytes() for one in sorted(folder.iterdir())]
    return [cast(EmailMessage, email.message_from_bytes(one, policy=email.policy.default)) for one in found]


def names(message: EmailMessage) -> list[str | None]:
    return [part.get_filename() for part in message.iter_parts()]


@pytest.mark.parametrize("size", [100, 300_000], ids=["small", "large"])
def test_mail_is_delivered_without_what_is_blocked(kmqd: Kmqd, size: int) -> None:
    send(kmqd, multipart(TEXT, attachment("evil.exe", b"MZ" + os.urandom(size)), attachment("b.txt", os.urandom(size))))
    (message,) = mailbox(kmqd, "alice")
    assert names(message) == [None, None, "b.txt"]
    assert names(mailbox(kmqd, "admin")[0]) == [None, "evil.exe", "b.txt"]
    assert "evil.exe" in mailbox(kmqd, "bob")[0].get_content()
    until(lambda: "Mail queue is empty" in kmqd.asked("mailq"), "nothing is left")
    until(lambda: os.listdir(kmqd.spool / "incoming") == [], "nothing is left in incoming/ (J6)")


def test_the_examiner_ends_with_its_worker(kmqd: Kmqd) -> None:
    send(kmqd, multipart(TEXT, attachment("b.txt", b"x")))
    mailbox(kmqd, "alice")
    (examiner,) = children(kmqd.children()["worker-1"])
    kmqd.kill("worker-1")
    until(lambda: not Path(f"/proc/{examiner}").exists(), "the examiner is gone")
    send(kmqd, multipart(TEXT, attachment("evil.exe", b"x")), "carol@local.test")
    assert names(mailbox(kmqd, "carol")[0]) == [None, None]


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_bomb_is_held_and_may_be_let_through(kmqd: Kmqd) -> None:
    send(kmqd, in_mail(bombs.overlapping()))
    until(lambda: "[content] beyond_limits" in kmqd.asked("mailq"), "it is held")
    (name,) = (line.split()[0] for line in kmqd.asked("mailq").splitlines() if "beyond_limits" in line)
    assert f"kmq resume {name}" in kmqd.asked("explain", name)
    kmqd.asked("resume", name)
    (message,) = mailbox(kmqd, "alice")
    assert names(message) == [None, "a.zip"], "as it came"


def test_mail_that_the_examiner_dies_of_is_set_aside_and_other_mail_goes_on(kmqd: Kmqd) -> None:
    """reliability 29."""
    files = (("x" * 490 + str(number), b"") for number in range(12_000))
    send(kmqd, in_mail(zipped(*files, method=zipfile.ZIP_STORED)))
    for number in range(5):
        send(kmqd, multipart(TEXT, attachment(f"{number}.txt", b"x")), "carol@local.test")
    mailbox(kmqd, "carol", 5)
    until(lambda: any(one.suffix == ".eml" for one in (kmqd.spool / "poison").rglob("*")), "it is set aside")
    assert "Content filtering" in kmqd.asked("poison", "list")
    send(kmqd, multipart(TEXT), "dave@local.test")
    mailbox(kmqd, "dave")
    assert not (kmqd.mail / "alice").exists()
