"""Mailboxes that kmqd's user may not write: tried by a user who is not root, as kmqd is none."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from kmq.config.sections import ConnectorSection
from kmq.phases import maildir, mbox
from kmq.phases.addressee import copy_text
from kmq.phases.mailbox import copy_for
from tests.phases.mailboxes import NAME, section, work

NOBODY = 65534
PARTS = [("alice", 0o500), ("alice/tmp", 0o500), ("alice/new", 0o500), ("alice/cur", 0), ("alice", 0)]


def as_nobody(deliver: Callable[[], Sequence[str]]) -> list[str]:
    """What a process of the user nobody says."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(theirs, "\n".join(deliver()).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours) as said:
        lines = said.read().split("\n")
    os.waitpid(pid, 0)
    return lines


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody gets to."""
    with tempfile.TemporaryDirectory(prefix="kmq-rights-") as made:
        os.chmod(made, 0o755)
        yield Path(made)


def made_for_nobody(root: Path) -> None:
    for folder in ("alice", "alice/tmp", "alice/new", "alice/cur"):
        (root / folder).mkdir()
        os.chown(root / folder, NOBODY, NOBODY)


def in_maildir(connector: ConnectorSection) -> list[str]:
    copy = copy_for(work("alice@here.test"), 0, connector, "mx.here.test")
    assert isinstance(copy, maildir.Copy)
    maildir.deliver([copy])
    return [str(copy.reply)]


@pytest.mark.root
@pytest.mark.parametrize(("part", "mode"), PARTS)
def test_a_mailbox_that_may_not_be_written_keeps_its_mail(place: Path, part: str, mode: int) -> None:
    root = place / "mail"
    root.mkdir(0o755)
    made_for_nobody(root)
    (root / part).chmod(mode)
    (said,) = as_nobody(lambda: in_maildir(section(root)))
    if (part, mode) == ("alice", 0o500):
        assert said.startswith("250"), "its folders are there"
    elif part == "alice/cur":
        assert said.startswith("451 4.3.0 local storage error: Permission denied")
    else:
        assert said == "451 4.3.0 local storage error: Permission denied (alice)"
        assert not [path for path in root.rglob("*") if path.is_file()]
    (root / part).chmod(0o700)
    assert as_nobody(lambda: in_maildir(section(root)))[0].startswith("250")
    assert [path.name for path in root.rglob("*") if path.is_file()] == [NAME]


@pytest.mark.root
def test_an_mbox_beside_which_no_lock_can_be_made_keeps_its_mail(place: Path) -> None:
    root = place / "mail"
    root.mkdir(0o755)
    (root / "alice").write_bytes(b"")
    os.chown(root / "alice", NOBODY, NOBODY)
    letter = mbox.Letter(NAME, "mx.here.test", "a@b", copy_text(work("alice@here.test"), 0), 0)

    def append() -> list[str]:
        return [mbox.deliver(str(root), ("alice",), True, [letter]), str(letter.reply)]

    assert as_nobody(append) == ["", "451 4.3.0 local storage error: Permission denied (alice)"]
    assert (root / "alice").read_bytes() == b""
    os.chown(root, NOBODY, NOBODY)
    assert as_nobody(append) == ["", "250 2.0.0 delivered to alice"]
    assert os.listdir(root) == ["alice"]
