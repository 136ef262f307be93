"""Copies of messages as files: whole, for the right recipients, readable by the Replay directory, harmful to nobody."""

import json
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmq.config.drop import ReplaySection
from kmq.intake.completion import Completion
from kmq.intake.dropped import BadFile, Letter, NotYet
from kmq.intake.replay import Replay
from kmq.model.envelope import Head, Recipient, Source
from kmq.model.event import Delivered, Moved, Routed, Suspended
from kmq.model.frame import Answer
from kmq.phases.injected import block
from kmq.run import drop_original
from kmq.run.drop_original import Once
from tests.cli.conftest import Kmqd, Place
from tests.mailbag import BODY, Mailbag

ISP = "SmartHostConnectorDelivery;smtp.isp.example:587;isp"
OTHER = "SmartHostConnectorDelivery;smtp.isp.example:587;spare"
REPLAY = Replay(ReplaySection(directory="/x"), Completion("mx.us.test", "us.test"))


def read(text: bytes) -> Letter:
    """A file as the Replay directory reads it."""
    return REPLAY.read(text.partition(b"\r\n\r\n")[0] + b"\r\n", "root", 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "copies"
    made.mkdir()
    return made


# --- what a file says -------------------------------------------------------------------------------------------------


def test_sender_recipients_and_their_parameters_come_back(place: Place, kmqd: Kmqd, folder: Path) -> None:
    recipients = (
        Recipient("bob@example.net", "SUCCESS,FAILURE", "rfc822;b+2Bob@example.net"),
        Recipient('"a b"@example.net', "NEVER"),
        Recipient("done@example.net"),
    )
    name = place.bag.lay(
        Routed(rcpt="0-2", hop=ISP), Delivered(rcpt="2"), Suspended(), to=recipients, eight_bit=True, ret="HDRS",
        envid="QQ314159", source=Source("smtp", "192.0.2.7", "client.example.org", "ada", "mx", created_by="Notes"),
    )  # fmt: skip
    assert place.run("export", name, "--to", str(folder))[0] == 0
    assert kmqd.asked[-1] == ("export", {"ids": [name]})
    text = (folder / f"{name}.eml").read_bytes()
    assert text.endswith(BODY)
    found = read(text)
    assert (found.sender.address, found.sender.ret, found.sender.envid) == ("alice@example.org", "HDRS", "QQ314159")
    assert found.recipients == list(recipients[:2]), "who has it already gets it no more"
    source = found.source
    assert (source.ip, source.helo, source.receiver) == ("192.0.2.7", "client.example.org", "mx")
    assert (source.created_by, found.original) == ("Notes", name)
    head = text[: -len(BODY)]
    assert head.endswith(b"X-EndOfInjectedXHeaders: %d\r\n" % len(head))
    assert b"BODY=8BITMIME" in head


LOCAL = st.text("abcxyz.+-_=\u00e9\u4e2d", min_size=1, max_size=30).filter(lambda text: ".." not in f".{text}.")
TEXT = st.text(max_size=300)


@given(sender=LOCAL, to=st.lists(LOCAL, min_size=1, unique=True), helo=TEXT, receiver=TEXT, utf8=st.booleans())
def test_whatever_an_envelope_says_the_file_is_read_as_it_was_meant(
    sender: str, to: list[str], helo: str, receiver: str, utf8: bool
) -> None:
    """Foreign words, a client's greeting for instance, make no field of their own."""
    addresses = [f"{one}@example.net" for one in to]
    source = Source("smtp", "192.0.2.7", helo, "", receiver)
    head = Head(
        "69212ad0-00000001", "", "", f"{sender}@example.org", [Recipient(one) for one in addresses], 1, source,
        smtputf8=utf8,
    )  # fmt: skip
    found = read(block(head, range(len(to))) + b"X-Sender: its own\r\n\r\n")
    assert found.sender.address == f"{sender}@example.org"
    assert [one.address for one in found.recipients] == addresses
    assert found.sender.utf8 == (utf8 or not sender.isascii())
    assert b"its own" in found.header


def test_the_null_sender_stays_one(place: Place, kmqd: Kmqd, folder: Path) -> None:
    name = place.bag.lay(Routed(rcpt="0", hop=ISP), sender="")
    place.run("export", name, "--to", str(folder))
    assert read((folder / f"{name}.eml").read_bytes()).sender.address == ""


# --- which messages ---------------------------------------------------------------------------------------------------


def test_only_the_recipients_of_the_named_queues_are_in_the_copy(place: Place, kmqd: Kmqd, folder: Path) -> None:
    name = place.bag.lay(
        Routed(rcpt="0", hop=ISP), Routed(rcpt="1", hop=OTHER), to=("a@x.test", "b@x.test", "c@x.test")
    )
    assert place.run("export", f"{OTHER}\\{name}", f"submission\\{name}", "--to", str(folder))[0] == 0
    found = read((folder / f"{name}.eml").read_bytes())
    assert [one.address for one in found.recipients] == ["b@x.test", "c@x.test"]
    assert len(os.listdir(folder)) == 1


def test_what_kmqd_does_not_allow_is_not_copied(place: Place, kmqd: Kmqd, folder: Path) -> None:
    name, other = place.bag.lay(), place.bag.lay()
    kmqd.answers["export"] = [
        {"ID": name, "Result": "skipped", "Why": "it is not suspended"},
        {"ID": other, "Result": "exported"},
        Answer(status=0),
    ]
    status, out, err = place.run("export", name, other, "--to", str(folder))
    assert (status, os.listdir(folder)) == (0, [f"{other}.eml"])
    assert out.splitlines()[-1] == "1 message exported; 1 skipped: it is not suspended"
    assert err == f"kmq: 1 message copied to {folder}; the original stays in the queue\n"
    place.bag.envelope(other).unlink()
    assert place.run("export", other, "--to", str(folder))[:2] == (
        1,
        f"{name} skipped: it is not suspended\n{other} gone\n",
    )


def test_out_of_poison(place: Place, kmqd: Kmqd, folder: Path) -> None:
    name = place.bag.lay(Moved(home="poison", reason="it kills"), home="poison")
    assert place.run("export", "--queue", "poison", "--to", str(folder))[0] == 0
    assert (folder / f"{name}.eml").read_bytes().endswith(BODY)
    place.bag.envelope(name, "poison").write_bytes(b"torn")
    (folder / f"{name}.eml").unlink()
    status, out, _ = place.run("export", name, "--to", str(folder))
    assert (status, os.listdir(folder)) == (1, [])
    assert "skipped: it is damaged" in out


# --- where to ---------------------------------------------------------------------------------------------------------


def test_no_file_is_touched_and_no_link_followed(place: Place, kmqd: Kmqd, folder: Path, tmp_path: Path) -> None:
    mine, linked, free = (place.bag.lay() for _ in range(3))
    (folder / f"{mine}.eml").write_text("mine")
    victim = tmp_path / "victim"
    victim.write_text("victim")
    (folder / f"{linked}.eml").symlink_to(victim)
    status, out, _ = place.run("export", mine, linked, free, "--to", str(folder))
    assert status == 0
    assert f"{mine} skipped: {mine}.eml is there already\n" in out
    assert f"{linked} skipped: {linked}.eml is there already\n" in out
    assert (folder / f"{mine}.eml").read_text() == "mine"
    assert victim.read_text() == "victim"
    assert sorted(os.listdir(folder)) == [f"{name}.eml" for name in (mine, linked, free)], "nothing else is left"
    found = (folder / f"{free}.eml").stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_uid == place.spool.stat().st_uid
    other = tmp_path / "elsewhere"
    other.symlink_to(folder)
    for path, says in (
        (other, "is a symbolic link: name the folder itself"),
        (tmp_path / "nowhere", "No such file or directory; the folder has to be there"),
        (victim, "Not a directory"),
    ):
        status, _, err = place.run("export", free, "--to", str(path))
        assert status == 2
        assert says in err


def test_where_there_are_no_hard_links(place: Place, kmqd: Kmqd, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    name, mine = place.bag.lay(), place.bag.lay()
    (folder / f"{mine}.eml").write_text("mine")
    _, out, _ = place.run("export", name, mine, "--to", str(folder))
    assert f"{mine} skipped: {mine}.eml is there already\n" in out
    assert (folder / f"{mine}.eml").read_text() == "mine"
    assert (folder / f"{name}.eml").read_bytes().endswith(BODY)
    assert len(os.listdir(folder)) == 2


def test_a_full_disk_leaves_nothing_half_done(
    place: Place, kmqd: Kmqd, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "sendfile", full)
    name = place.bag.lay()
    status, out, _ = place.run("--json", "export", name, "--to", str(folder))
    assert (status, os.listdir(folder)) == (1, [])
    why = "its file cannot be made: No space left on device"
    assert json.loads(out) == {"ID": name, "Result": "skipped", "Why": why}


# --- and back ---------------------------------------------------------------------------------------------------------


def test_a_copy_is_not_taken_beside_its_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = Mailbag(tmp_path / "spool")
    name = bag.lay(Routed(rcpt="0-1", hop=ISP), Delivered(rcpt="1"), to=("a@x.test", "b@x.test"))
    header = f"X-Sender: <s@x.test>\r\nX-Receiver: <{{}}>\r\nX-kmq-Original: {name}\r\nX-EndOfInjectedXHeaders: 0\r\n"
    once = Once(REPLAY, bag.spool)
    other = header.format("b@x.test").encode()
    assert once.read(other, "root", 0.0).original == name, "who has it is sent it anew by who wants that"
    copy = header.format("a@x.test").encode()
    monkeypatch.setattr(drop_original, "MOMENT", 0.05)
    for _ in range(2):  # and once more when it is put there again, perhaps just behind a remove
        with pytest.raises(NotYet, match=f"a copy of {name}"):
            once.read(copy, "root", 0.0)
        time.sleep(0.05)
        with pytest.raises(BadFile, match=f"still waits here for a@x.test: kmq remove {name} first"):
            once.read(copy, "root", 0.0)
    bag.envelope(name).unlink()
    assert once.read(copy, "root", 0.0).original == name
    with pytest.raises(BadFile, match="is no queue ID"):
        once.read(copy.replace(name.encode(), b"../../etc/passwd"), "root", 0.0)
