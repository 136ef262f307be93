"""The bytes of a local copy, whoever gets them: what is on top, what phases changed, and what goes in a circle."""

import sys
from pathlib import Path

import pytest

from kmq.model.event import HeaderEdit
from tests.phases.mailboxes import NAME, deliver, local, locally, section, work
from tests.phases.sending import kinds, results

EDITS = (HeaderEdit(how="set", name="Subject", value="[spam] x"), HeaderEdit(how="add", name="X-Spam", value="yes"))
ABOVE = b"Received: by here\r\nDelivered-To: %b\r\nSubject: x\r\n\r\n"


@pytest.mark.parametrize("size", [1, 40_000])
def test_what_phases_changed_stands_in_every_kind_of_copy(tmp_path: Path, size: int) -> None:
    text = b"Received: by here\r\nSubject: x\r\n\r\n" + b"line\r\n" * size
    one = work("alice@here.test", text=text, file=tmp_path / "x.eml" if size > 1 else None, edits=EDITS)
    tee = tmp_path / "tee.py"
    tee.write_text("import shutil, sys\nshutil.copyfileobj(sys.stdin.buffer, open(sys.argv[1], 'wb'))\n")
    connectors = {
        "maildir": section(tmp_path / "maildir"),
        "mbox": local("mailbox", mbox=f"{tmp_path}/mbox/{{user}}"),
        "pipe": local("pipe", command=(sys.executable, str(tee), f"{tmp_path}/piped")),
    }
    for name, connector in connectors.items():
        assert kinds(locally(connector, one)[0]) == "D", name
    for path in (tmp_path / "maildir/alice/new" / NAME, tmp_path / "mbox/alice", tmp_path / "piped"):
        header, _, rest = path.read_bytes().partition(b"\n\n")
        assert header.endswith(b"X-Spam: yes\nReceived: by here\nSubject: [spam] x"), path
        assert rest.rstrip(b"\n") == b"\n".join([b"line"] * size), path


@pytest.mark.parametrize("there", [b"alice@here.test", b"Alice@HERE.test", b"\r\n alice@here.test"])
def test_a_message_that_was_delivered_to_the_address_before_is_a_loop(tmp_path: Path, there: bytes) -> None:
    (found,) = deliver(section(tmp_path), work("alice@here.test", "bob@here.test", text=ABOVE % there + b"x\r\n"))
    assert kinds(found) == "FD", "bob never had it"
    assert results(found)[0][1].startswith("554 5.4.6 mail loop: it was delivered to ")
    assert not list((tmp_path / "alice").rglob("new/*"))
    assert not list((tmp_path / "alice").rglob("tmp/*"))


def test_a_loop_of_a_large_message_is_found_ahead_of_its_text(tmp_path: Path) -> None:
    text = ABOVE % b"alice@here.test" + b"line\r\n" * 100_000
    for connector in (section(tmp_path / "a"), local("mailbox", mbox=f"{tmp_path}/b/{{user}}")):
        (found,) = locally(connector, work("alice@here.test", text=text, file=tmp_path / "x.eml"))
        assert results(found)[0][1].startswith("554 5.4.6")
    assert (tmp_path / "b/alice").read_bytes() == b""


@pytest.mark.parametrize(
    "header",
    [
        b"Delivered-To: bob@here.test\r\n",
        b"X-Delivered-To: alice@here.test\r\n",
        b"Subject: Delivered-To: alice@here.test\r\n",
        b"Subject: x\r\n\r\nDelivered-To: alice@here.test\r\n",
    ],
)
def test_what_is_no_loop_is_delivered(tmp_path: Path, header: bytes) -> None:
    (found,) = deliver(section(tmp_path), work("alice@here.test", text=b"Received: x\r\n" + header + b"\r\nx\r\n"))
    assert kinds(found) == "D"
