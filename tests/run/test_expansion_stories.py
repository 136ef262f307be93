"""Aliases in real processes: what they stand for comes once, whoever dies, and a large body is copied to nobody."""

import asyncio
import os
import smtplib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from kmq.model import moment
from kmq.model.envelope import Head, Recipient, fold
from kmq.model.event import Expanded
from kmq.model.frame import Assign, Child, Done, Known
from kmq.phases.work import Body
from kmq.routing.expanding import Expansion, Final
from kmq.run.expansion import draft
from kmq.spool.incoming import Maker, name
from tests.fakes import EvilHop
from tests.run.stage import Actor, Stage, until
from tests.torture.kmqd import Kmqd
from tests.waiting import until as wait

TEXT = b"Subject: to the list\r\n\r\nhello\r\n"


def expanded(assign: Assign, *to: str, incoming: str = "", text: bytes = TEXT) -> tuple[Done, bytes]:
    """A worker's result: the one recipient is an alias of these addresses."""
    head = Head(
        assign.m, sha256(text).hexdigest(), moment.as_text(time.time()), "s@x", [Recipient("list@us")], len(text)
    )
    drafts = draft(head, [(0, Expansion("aliases:1 list", tuple(map(Final, to)), ()))], [], 1)
    if incoming:
        children, raw = drafts.with_names([incoming], head.sha256)
    else:
        children, raw = drafts.with_body(Body(text, "", len(text)))
    events = [msgspec.Raw(msgspec.json.encode(event)) for event in drafts.events]
    return Done(assign.n, assign.m, assign.hop, assign.rcpt, assign.attempt, events, children=children), raw


async def taken(stage: Stage, number: int = 1) -> tuple[Actor, Assign, str]:
    """One worker with a message for an alias in its hands."""
    await stage.scheduler()
    actor = stage.actor(number)
    await actor.come()
    mail = await stage.receiver.mail("list@us.test")
    return actor, await actor.gets(mail), mail


async def children(stage: Stage, actor: Actor, mail: str) -> list[str]:
    """IDs of other messages that the worker was given, after everything said before was heard."""
    await stage.rounds(actor)

    def found() -> list[str]:
        known = dict.fromkeys(one.m for one in actor.peer.heard(Assign))
        return [one for one in known if one != mail and "list@us" in stage.envelope(one)]

    await until(found, "a child has its files")
    return found()


def test_the_child_and_the_end_of_its_parent_are_one(tmp_path: Path) -> None:
    async def story() -> None:
        async with Stage(tmp_path) as stage:
            actor, assign, mail = await taken(stage)
            actor.peer.say(*expanded(assign, "a@far.test", "b@far.test"))
            await until(lambda: actor.known(assign.n), "the result is known")
            await until(lambda: len(actor.peer.heard(Assign)) > 1, "the child is given out")
            child = actor.peer.heard(Assign)[-1].m
            assert child != mail
            await until(
                lambda: stage.envelope(child) and not stage.envelope(mail), "the child is there, its parent is not"
            )
            found = fold(stage.envelope(child).encode())
            assert found is not None
            assert [one.address for one in found[0].recipients] == ["a@far.test", "b@far.test"]
            assert found[0].parent == mail
            await stage.kill_scheduler()
            await stage.scheduler(actor)
            await actor.come()
            await actor.gets(child)
            assert not actor.given(mail)

    asyncio.run(story())


def test_a_result_that_is_said_again_expands_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with Stage(tmp_path) as stage:
            actor, assign, mail = await taken(stage)
            result = expanded(assign, "a@far.test")
            actor.peer.say(*result)
            await until(lambda: actor.known(assign.n), "the result is known")
            await stage.kill_scheduler()
            await stage.scheduler(actor)
            await actor.come()
            actor.peer.say(*result)  # as if Known had not come through (J10)
            await until(lambda: any(assign.n in one.numbers for one in actor.peer.heard(Known)), "it is known again")
            assert len(await children(stage, actor, mail)) == 1

    asyncio.run(story())


def test_a_result_that_nobody_heard_is_not_lost(tmp_path: Path) -> None:
    async def story() -> None:
        async with Stage(tmp_path) as stage:
            actor, assign, mail = await taken(stage)
            result = expanded(assign, "a@far.test")
            stage.stop()
            actor.peer.say(*result)
            await asyncio.sleep(0)
            await stage.kill_scheduler()
            await stage.scheduler(actor)
            await actor.come(assign)
            actor.peer.say(*result)
            await until(lambda: actor.known(assign.n), "the result is known")
            assert len(await children(stage, actor, mail)) == 1

    asyncio.run(story())


def incoming_of(actor: Actor, serial: int) -> str:
    start = int(Path(f"/proc/{actor.pid}/stat").read_text().rpartition(")")[2].split()[19])
    return name(Maker(0, actor.pid, start), serial)


def test_what_a_dead_worker_left_in_incoming_goes_and_what_a_put_names_stays(tmp_path: Path) -> None:
    async def story() -> None:
        async with Stage(tmp_path) as stage:
            actor, assign, _ = await taken(stage)
            named, left = incoming_of(actor, 1), incoming_of(actor, 2)
            for one in (named, left):
                (stage.spool / "incoming" / one).write_bytes(TEXT)
            actor.peer.say(*expanded(assign, "a@far.test", incoming=named))
            await until(lambda: actor.known(assign.n), "the result is known")
            actor.die()
            stage.reap(actor)
            await until(lambda: not (stage.spool / "incoming" / left).exists(), "its leavings are gone")
            other = stage.actor(2)
            await other.come()
            await until(lambda: other.peer.heard(Assign), "the child is given out")
            child = other.peer.heard(Assign)[-1].m
            (body,) = stage.spool.glob(f"queue/*/{child}.eml")
            assert body.read_bytes() == TEXT

    asyncio.run(story())


def test_a_child_s_place_among_others_is_its_id(tmp_path: Path) -> None:
    """Also beside a notice, in the envelope of a parent that goes on."""

    async def story() -> None:
        async with Stage(tmp_path) as stage:
            await stage.scheduler()
            actor = stage.actor(1)
            await actor.come()
            mail = await stage.receiver.mail("list@us.test", "b@far.test")
            assign = await actor.gets(mail)
            done, raw = expanded(assign, "a@far.test")
            done.children = [Child(1, done.children[0].tail, len(TEXT)), *done.children]
            actor.peer.say(done, raw + raw)
            await until(lambda: actor.known(assign.n), "the result is known")
            await until(lambda: '"expanded"' in stage.envelope(mail), "the envelope tells of it")
            found = fold(stage.envelope(mail).encode())
            assert found is not None
            (event,) = (one for one in found[2] if isinstance(one, Expanded))
            assert found[1].open == [1]
            given = {one.m for one in actor.peer.heard(Assign)}
            await until(lambda: len({one.m for one in actor.peer.heard(Assign)}) == 3, f"two children, not {given}")
            assert event.child == max(one.m for one in actor.peer.heard(Assign)), "the second of the two"

    asyncio.run(story())


# --- all of it --------------------------------------------------------------------------------------------------------

MEMBERS = [f"m{number}@far.test" for number in range(40)]


@pytest.fixture
def hop() -> Iterator[EvilHop]:
    with EvilHop().threaded() as one:
        yield one


def kmqd(folder: Path, hop: EvilHop) -> Kmqd:
    (folder / "members").write_text("\n".join(MEMBERS))
    (folder / "aliases").write_text(
        f"list: :include:{folder}/members\nowner-list: ada\n"
        f"ada: \\ada, phone@far.test\nnowhere: :include:{folder}/none\n"
    )
    return Kmqd(folder, hops={"far.test": hop.port}, kmq=f"alias_files = {folder}/aliases")


def send(port: int, *to: str, text: bytes, sender: str = "ada@client.test") -> None:
    with smtplib.SMTP("127.0.0.1", port, "client.test") as client:
        client.sendmail(sender, to, text)


def send_until_taken(port: int, text: bytes) -> None:
    """Tried again while the scheduler process is away, as a client does that hears 451."""

    def taken() -> bool:
        try:
            send(port, "list@local.test", text=text)
        except smtplib.SMTPException:
            return False
        return True

    wait(taken, "a message is taken in", 60)


def letter(number: int, size: int) -> bytes:
    return b"Message-ID: <%d@client.test>\r\nSubject: %d\r\n\r\n" % (number, number) + (b"x" * 70 + b"\r\n") * (
        size // 72
    )


def test_a_large_mail_to_a_list_is_delivered_to_all_and_copied_to_nobody(tmp_path: Path, hop: EvilHop) -> None:
    daemon = kmqd(tmp_path, hop)
    daemon.start()
    try:
        send(daemon.port, "list@local.test", "ada@local.test", text=letter(1, 3_000_000))
        daemon.drain()
        assert {to: hop.delivered(to) for to in MEMBERS} == dict.fromkeys(MEMBERS, 1)
        assert hop.delivered("phone@far.test") == 1
        assert {one.sender for one in hop.messages if "m0@far.test" in one.recipients} == {"owner-list@local.test"}
        (copy,) = (tmp_path / "mail" / "ada" / "new").iterdir()
        head = copy.read_bytes()[:2000]
        assert b"\nDelivered-To: ada@local.test\nX-Original-To: ada@local.test\n" in head
        assert daemon.accidents() == []
        wait(lambda: os.listdir(tmp_path / "spool" / "incoming") == [], "incoming/ is empty after a checkpoint")
    finally:
        daemon.close()


def test_a_list_that_cannot_be_read_waits_and_then_goes_on(tmp_path: Path, hop: EvilHop) -> None:
    daemon = kmqd(tmp_path, hop)
    daemon.start()
    try:
        send(daemon.port, "nowhere@local.test", "m9@far.test", text=letter(1, 100))
        wait(lambda: hop.delivered("m9@far.test"), "others get theirs")
        wait(lambda: "cannot be read: No such file" in daemon.log, "the reason is told")
        (tmp_path / "none").write_text("late@far.test\n")
        wait(lambda: hop.delivered("late@far.test"), "it goes on when the list is there")
        daemon.drain()
        assert hop.delivered("m9@far.test") == 1
    finally:
        daemon.close()


@pytest.mark.parametrize("size", [2_000, 200_000])
def test_whoever_is_killed_no_member_is_left_out(tmp_path: Path, hop: EvilHop, size: int) -> None:
    """Workers and the scheduler process die while lists are expanded. More than one copy comes only of a death between
    the hop's answer and our record of it: at most one for each kill."""
    daemon = kmqd(tmp_path, hop)
    daemon.start()
    sent, kills = 12, 0
    accepted: list[int] = []

    def bring() -> None:
        for number in range(sent):
            send_until_taken(daemon.port, letter(number, size))
            accepted.append(number)

    try:
        sender = threading.Thread(target=bring)
        sender.start()
        for number, name in enumerate(["worker-1", "scheduler-1", "worker-2"] * 2):
            wait(lambda number=number: len(accepted) > 2 * number, "mail goes on coming", 60)
            kills += bool(daemon.kill(name))
        sender.join()
        daemon.drain()
        copies = Counter(one.key for one in hop.messages for to in one.recipients if to == MEMBERS[-1])
        assert {f"<{n}@client.test>" for n in range(sent)} == set(copies)
        for to in MEMBERS:
            assert sent <= hop.delivered(to) <= sent + kills
        assert daemon.poison() == []
        assert daemon.accidents() == []
        wait(lambda: os.listdir(tmp_path / "spool" / "incoming") == [], "nothing is left in incoming/")
    finally:
        daemon.close()
