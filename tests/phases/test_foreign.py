"""Folders of gateways, and connectors that have their answer at once."""

import errno
import os
import resource
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kmq.config.address_maps import address_map
from kmq.config.rewrite import RewriteSection
from kmq.config.sections import ConnectorSection
from kmq.intake import replay
from kmq.model import reply
from kmq.model.envelope import Recipient
from kmq.model.event import HeaderEdit
from kmq.model.hop import DeliveryType, NextHop
from kmq.phases import drop_folder
from kmq.phases.drop_folder import name_of, usage
from kmq.phases.rewriting import Rewriting
from kmq.phases.work import Work
from tests.phases.programs import GATE, World, foreign, mode, play, work
from tests.phases.sending import kinds, results

ID = "69212ad0-00000001"


def letter(*to: str, **more: Any) -> Work:
    return work(*(to or ("a@x400",)), hop=GATE, **more)


# --- what goes well ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_message_becomes_a_file_that_replay_would_take(tmp_path: Path, loop: str) -> None:
    one = letter("a@x400", "b@x400", "c@x400")
    asked = [Recipient("a@x400", notify="SUCCESS", orcpt="rfc822;x@y.test"), *one.head.recipients[1:]]
    head = msgspec.structs.replace(one.head, recipients=asked, envid="17", ret="HDRS")

    async def story(world: World) -> None:
        assert mode(tmp_path / "drop/x400") == 0o700
        found = await world.outcome(Work(head, one.body, (0, 2), GATE, 1))
        assert results(found)[2] == ("Delivered", f"250 2.0.0 written to {ID}.0,2.eml for the gateway")
        assert found.relayed == [0, 2]

    play(tmp_path, story, foreign(), loop=loop)
    (path,) = (tmp_path / "drop/x400").iterdir()
    assert path.name == f"{ID}.0,2.eml"
    assert mode(path) == 0o640
    text = path.read_bytes()
    assert text.startswith(
        b"X-Sender: <sender@kmq.test> BODY=7BIT RET=HDRS ENVID=17\r\nX-Receiver: <a@x400> NOTIFY=SUCC"
    )
    assert b"X-Receiver: <c@x400>\r\n" in text
    assert b"b@x400" not in text
    ahead, end, body = text.partition(b"X-EndOfInjectedXHeaders: ")
    length, _, body = body.partition(b"\r\n")
    assert int(length) == len(ahead + end + length) + 2
    assert body == b"Message-ID: <1@kmq.test>\r\nSubject: x\r\n\r\nhello\r\n"
    assert replay.BLOCK


def test_what_phases_and_rewriting_changed_stands_in_it(tmp_path: Path) -> None:
    rewrites = (RewriteSection(name="x", senders=address_map().parse("sender@kmq.test boss@example.org")),)
    one = letter(text=b"From: sender@kmq.test\r\nX-Spam: no\r\n\r\nhello\r\n")

    async def story(world: World) -> None:
        await world.outcome(Work(one.head, one.body, one.rcpt, GATE, 1, (HeaderEdit("set", "X-Spam", "yes"),)))

    play(tmp_path, story, foreign(), rewriting=Rewriting(rewrites))
    text = (tmp_path / f"drop/x400/{ID}.0.eml").read_bytes()
    assert text.startswith(b"X-Sender: <boss@example.org>")
    assert text.endswith(b"From: boss@example.org\r\nX-Spam: yes\r\n\r\nhello\r\n")


def test_a_large_message_comes_in_pieces(tmp_path: Path) -> None:
    text = b"Subject: x\r\n\r\n" + b"a line of text\r\n\r\n.\r\n" * 60_000

    async def story(world: World) -> None:
        assert kinds(await world.outcome(letter(text=text, file=tmp_path / "x.eml"))) == "D"

    play(tmp_path, story, foreign(drop_mode=0o664))
    path = tmp_path / f"drop/x400/{ID}.0.eml"
    assert path.read_bytes().endswith(text)
    assert mode(path) == 0o664


def test_many_messages_share_the_writers(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        sent = [world.send(letter(number=number)) for number in range(300)]
        for one in sent:
            assert kinds(await one) == "D"

    play(tmp_path, story, foreign())
    assert len(os.listdir(tmp_path / "drop/x400")) == 300


def test_a_directory_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "gate").mkdir()

    async def story(world: World) -> None:
        assert kinds(await world.outcome(letter())) == "D"
        assert not (tmp_path / "drop/x400").exists()

    play(tmp_path, story, foreign(drop_directory=str(tmp_path / "gate")))
    assert os.listdir(tmp_path / "gate") == [f"{ID}.0.eml"]


def test_a_name_is_bounded_whoever_gets_it(tmp_path: Path) -> None:
    many = letter(*(f"u{number}@x400" for number in range(2000)))
    odd = Work(many.head, many.body, tuple(range(0, 2000, 2)), GATE, 1)
    other = Work(many.head, many.body, tuple(range(0, 1998, 2)), GATE, 1)
    assert len(name_of(odd)) < 64
    assert name_of(odd) == name_of(Work(many.head, many.body, tuple(range(0, 2000, 2)), GATE, 9))
    assert name_of(odd) != name_of(other)

    async def story(world: World) -> None:
        assert len(results(await world.outcome(odd))) == 1000

    play(tmp_path, story, foreign())
    assert os.listdir(tmp_path / "drop/x400") == [name_of(odd)]


# --- twice ------------------------------------------------------------------------------------------------------------


def test_a_second_run_finds_the_file_of_the_first(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first = await world.outcome(letter())
        path = tmp_path / f"drop/x400/{ID}.0.eml"
        inode = path.stat().st_ino
        assert await world.outcome(letter()) == first
        assert path.stat().st_ino == inode

    play(tmp_path, story, foreign())
    assert os.listdir(tmp_path / "drop/x400") == [f"{ID}.0.eml"]


def test_what_a_dead_run_left_half_written_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "drop/x400").mkdir(parents=True)
    (tmp_path / f"drop/x400/.{ID}.0.eml.tmp").write_bytes(b"half")

    async def story(world: World) -> None:
        assert kinds(await world.outcome(letter())) == "D"

    play(tmp_path, story, foreign())
    assert os.listdir(tmp_path / "drop/x400") == [f"{ID}.0.eml"]


@pytest.mark.parametrize("what", ["link", "other", "directory"])
def test_what_bears_the_name_and_is_not_ours_is_left_alone(tmp_path: Path, what: str) -> None:
    there = tmp_path / f"drop/x400/{ID}.0.eml"
    there.parent.mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    if what == "link":
        there.symlink_to(tmp_path / "secret")
    elif what == "other":
        there.write_bytes(b"x")
    else:
        there.mkdir()

    async def story(world: World) -> None:
        found = await world.outcome(letter())
        assert "is not what kmq wrote" in str(found.unavailable)

    play(tmp_path, story, foreign())
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert there.is_symlink() or there.is_dir() or there.read_bytes() == b"x"


# --- trouble ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trouble", "why"),
    [("gone", "4.3.5 {} is missing"), ("link", "4.3.5 {} is a link"), ("file", "4.3.5 {} is a link, or no directory")],
)
def test_a_folder_that_cannot_be_used_is_a_trouble_of_the_queue(tmp_path: Path, trouble: str, why: str) -> None:
    gate = tmp_path / "gate"
    spool = tmp_path / "spool"
    spool.mkdir()
    (tmp_path / "elsewhere").mkdir()
    if trouble == "link":
        gate.symlink_to(tmp_path / "elsewhere")
    elif trouble == "file":
        gate.touch()

    async def story(world: World) -> None:
        found = await world.outcome(letter())
        assert found.events == []
        assert why.format(gate) in str(found.unavailable)
        if trouble == "gone":
            gate.mkdir()
            assert kinds(await world.outcome(letter())) == "D"

    play(spool, story, foreign(drop_directory=str(gate)))
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_folder_in_the_spool_is_made_again_with_the_next_configuration(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        (tmp_path / "drop/x400").rmdir()
        assert "is missing" in str((await world.outcome(letter())).unavailable)
        world.configure(foreign(drop_quota=1))
        assert kinds(await world.outcome(letter())) == "D"

    play(tmp_path, story, foreign())


def test_a_full_disk_leaves_nothing_half(tmp_path: Path) -> None:
    """The limit of a file's size stands for it: writing fails in the middle."""
    text = b"Subject: x\r\n\r\n" + b"text\r\n" * 50_000

    async def story(world: World) -> None:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            found = await world.outcome(letter(text=text, number=1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert found.events == []
        assert "4.3.0 cannot write into" in str(found.unavailable)
        assert os.listdir(tmp_path / "drop/x400") == []
        assert kinds(await world.outcome(letter(text=text, number=1))) == "D"

    play(tmp_path, story, foreign())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_told_as_such(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(drop_folder.os, "fsync", full)  # type: ignore[attr-defined]

    async def story(world: World) -> None:
        assert str((await world.outcome(letter())).unavailable).startswith("452 4.3.1 there is no room")

    play(tmp_path, story, foreign())


def test_a_damaged_body_is_told_and_others_go_on(tmp_path: Path) -> None:
    bad = letter(text=b"Subject: x\r\n\r\n" + b"text\r\n" * 9, file=tmp_path / "x.eml")
    (tmp_path / "x.eml").write_bytes(b"Subject: y\r\n\r\n" + b"text\r\n" * 9)
    gone = letter(text=b"Subject: x\r\n\r\n", file=tmp_path / "y.eml", number=3)
    (tmp_path / "y.eml").unlink()

    async def story(world: World) -> None:
        sent = [world.send(one) for one in (bad, letter(number=2), gone)]
        assert "checksum" in (await sent[0]).damaged
        assert kinds(await sent[1]) == "D"
        assert "cannot read the message" in results(await sent[2])[0][1]

    play(tmp_path, story, foreign())
    assert os.listdir(tmp_path / "drop/x400") == ["69212ad0-00000002.0.eml"]


# --- quota ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "fit"), [({"drop_quota_files": 2}, 2), ({"drop_quota": 300}, 2)])
def test_over_its_quota_the_queue_waits_until_files_are_taken(
    tmp_path: Path, options: dict[str, int], fit: int
) -> None:
    """A message is not kept waiting since it is itself too large: what is there already counts."""
    gate = tmp_path / "drop/x400"

    async def story(world: World) -> None:
        found = [await one for one in [world.send(letter(number=number)) for number in range(1, 5)]]
        assert [one.unavailable is None for one in found] == [True] * fit + [False] * (4 - fit)
        assert f"452 4.3.1 {gate} is full ({next(iter(options))})" in str(found[-1].unavailable)
        assert kinds(await world.outcome(letter(number=1))) == "D", "what is there already is found"
        next(gate.iterdir()).unlink()
        assert kinds(await world.outcome(letter(number=5))) == "D"

    play(tmp_path, story, foreign(**options))


def test_a_single_message_may_be_larger_than_the_quota(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        assert kinds(await world.outcome(letter())) == "D"

    play(tmp_path, story, foreign(drop_quota=1))


def test_what_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(b"x" * 10)
    (tmp_path / ".b.eml.tmp").write_bytes(b"x" * 10)
    (tmp_path / "c").mkdir()
    (tmp_path / "d").symlink_to("a.eml")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        assert usage(folder) == (10, 1)
    finally:
        os.close(folder)


# --- discard and error ------------------------------------------------------------------------------------------------

HOLE = NextHop(DeliveryType.NON_SMTP, "hole", "hole")


def test_discard_and_error_have_their_answer_at_once(tmp_path: Path) -> None:
    hole = ConnectorSection(name="hole", type="discard", helo="", address_spaces=("hole",))
    refusing = ConnectorSection(
        name="hole", type="error", helo="", address_spaces=("hole",), reply=reply.parse("450 4.1.1 not now")
    )

    async def story(world: World) -> None:
        one = work("a@hole", "b@hole", hop=HOLE)
        assert world.ways.ready(HOLE)
        found = await world.outcome(one)
        assert set(results(found).values()) == {("Delivered", "250 2.0.0 discarded (by connector hole)")}
        assert found.relayed == [], "nobody has it, so nobody is told of success"
        world.configure(refusing)
        assert results(await world.outcome(work("a@hole", hop=HOLE))) == {0: ("Deferred", "450 4.1.1 not now")}
        world.configure(ConnectorSection(name="hole", type="error", helo="", address_spaces=("hole",)))
        assert kinds(await world.outcome(work("a@hole", hop=HOLE))) == "F"
        world.configure(ConnectorSection(name="hole", type="discard", helo="", messages_per_minute=5))
        assert not world.ways.ready(HOLE), "whose turn it is, the scheduler process knows"

    play(tmp_path, story, hole)


@pytest.mark.parametrize("hop", [GATE, HOLE._replace(delivery_type=DeliveryType.DELIVERY_AGENT), HOLE])
def test_a_connector_that_leads_elsewhere_by_now(tmp_path: Path, hop: NextHop) -> None:
    other = ConnectorSection(name="hole", type="smarthost", helo="")

    async def story(world: World) -> None:
        assert not world.ways.ready(hop)
        found = await world.outcome(work(hop=hop))
        assert found.unavailable is not None
        assert found.unavailable.enhanced == "4.3.5"

    play(tmp_path, story, other)
