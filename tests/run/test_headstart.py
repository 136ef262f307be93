"""A message that comes alone is shown to a worker while it is synced, and nobody has its text before it is durable."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kmq.config import load
from kmq.model import queue_id
from kmq.model.envelope import Head, Recipient, head_line, head_tail
from kmq.model.event import Delivered, Failed, Routed
from kmq.model.frame import Assign, Frame, Show, Unshow
from kmq.run.arrivals import Arrival
from kmq.run.headstart import HeadStart
from kmq.run.job import Job
from kmq.run.lines import SUBMISSION
from kmq.run.walk import Walk
from kmq.spool.record import NOTHING, Put, Remove
from kmq.spool.status import StatusFile
from kmq.spool.store import Pending
from tests.fakes import EvilHop
from tests.phases.sending import until
from tests.run.desk import Desk
from tests.run.stage import Stage

NUMBER = 0x6553F100 << 32
NAME = queue_id.text(NUMBER)
BODY = b"Received: from here\r\nSubject: hello\r\n\r\nhello\r\n"


def line(to: str = "bob@far.test") -> bytes:
    head = Head("", "", "2026-11-22T12:00:00.000Z", "a@here.test", [Recipient(to)], len(BODY), longest=70)
    return head_line(NAME, "0" * 64, head_tail(head))


# --- the scheduler process --------------------------------------------------------------------------------------------


class Ear:
    """The other end of a worker's connection."""

    def __init__(self) -> None:
        self.heard: list[tuple[Frame, bytes]] = []

    def send(self, frame: Frame, raw: bytes = b"", more: bytes = b"") -> bool:
        self.heard.append((frame, raw + more))
        return True


class Bench:
    """A head start with the real core, and workers that only listen."""

    def __init__(self, workers: int = 2) -> None:
        self.desk = Desk([200] * workers)
        self.ears = {number: Ear() for number in range(1, workers + 1)}
        self.storage = SimpleNamespace()
        ward = SimpleNamespace(number=3)
        self.start = HeadStart(self.desk.scheduler, cast(Any, self.storage), cast(Any, self.ears.get), cast(Any, ward))

    def syncs(self, *, body: bytes | None = BODY, recipients: int = 1) -> None:
        arrival = Arrival(cast(Any, None), "00" * 16, bytes(16), NUMBER, NAME, recipients, 0)
        self.storage.on_alone(Pending([Put(NUMBER, line(), body)], arrival, 0.0, True, NOTHING))


def test_the_worker_that_would_get_it_is_shown_it_and_gets_it_without_its_text() -> None:
    bench = Bench()
    bench.syncs()
    (shown,) = bench.ears[1].heard
    assert shown == (Show(NAME, "0", len(line()), len(BODY), 3), line() + BODY)
    bench.desk.scheduler.accepted(NUMBER, 1, 0.0)
    (assigned,) = bench.desk.scheduler.assign(0.0)
    assert assigned.worker == 1
    assert bench.start.has(NUMBER, cast(Any, bench.ears[1]))
    bench.storage.on_told()
    assert (len(bench.ears[1].heard), bench.ears[2].heard) == (1, [])


def test_what_is_not_assigned_to_who_was_shown_it_is_taken_back_there() -> None:
    bench = Bench()
    bench.syncs()
    assert not bench.start.has(NUMBER, cast(Any, bench.ears[2]))
    assert not bench.start.has(NUMBER + 1, cast(Any, bench.ears[1]))
    bench.storage.on_told()
    assert bench.ears[1].heard[1:] == [(Unshow(), b"")]
    bench.storage.on_told()
    assert len(bench.ears[1].heard) == 2, "once"


@pytest.mark.parametrize("case", ["busy", "large", "no worker", "a result"])
def test_where_more_is_under_way_nothing_is_shown(case: str) -> None:
    bench = Bench(workers=0 if case == "no worker" else 1)
    if case == "busy":
        bench.desk.scheduler.accepted(NUMBER - 1, 1, 0.0)
        bench.desk.scheduler.assign(0.0)
    if case == "a result":
        bench.storage.on_alone(Pending([Remove(NUMBER)], object(), 0.0, False, NOTHING))
    else:
        bench.syncs(body=None if case == "large" else BODY)
    assert all(not ear.heard for ear in bench.ears.values())


def test_the_showing_comes_while_the_sync_lasts_and_the_assignment_behind_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with Stage(tmp_path) as stage:
            worker, _, before = await stage.begun()
            worker.delivers(before)
            await stage.nothing_queued()
            worker.peer.frames.clear()
            stage.gate.touch()
            token = stage.receiver.put("bob@far.test")
            await until(lambda: worker.peer.heard(Show), "it is shown")
            assert (worker.peer.heard(Assign), stage.receiver.stored(token)) == ([], "")
            stage.gate.unlink()
            (shown,) = worker.peer.heard(Show)
            assign = await worker.gets(shown.m)
            second = await stage.receiver.mail()
            await worker.gets(second)
            assert worker.peer.heard(Show) == [shown], "the second has none: something is in hand"
            assert worker.peer.heard(Unshow) == []
            worker.delivers(assign)
            worker.delivers(await worker.gets(second))
            await stage.nothing_queued()

    asyncio.run(story())


def test_a_scheduler_process_that_dies_while_it_syncs_leaves_the_next_hop_an_envelope_and_no_message(
    tmp_path: Path,
) -> None:
    """A real worker has told the hop who it is from and for."""

    async def story() -> None:
        async with EvilHop() as hop, Stage(tmp_path, hop=hop.port, per_hop=2) as stage:  # one for each worker
            worker = stage.begin("worker")
            await stage.scheduler(worker=worker.pid)
            await stage.receiver.mail()
            await stage.nothing_queued()
            hop.messages.clear()
            hop.writes.clear()
            stage.gate.touch()
            stage.receiver.put("bob@far.test")
            await until(lambda: asked(hop), "the hop has heard of it")
            await stage.kill_scheduler()
            await until(lambda: hop.open == 0, "the worker ends the connection")
            assert hop.messages == []
            stage.gate.unlink()
            await stage.scheduler(worker=worker.pid)
            await stage.all_loaded()
            await until(lambda: hop.messages, "the record was written, and survives the process")
            await stage.nothing_queued()
            assert len(hop.messages) == 1

    asyncio.run(story())


# --- the worker -------------------------------------------------------------------------------------------------------

CONFIGURATION = """\
[kmq]
hostname = kmq.test
spool = {folder}
[isp : connector]
type = smarthost
hosts = 127.0.0.1:{port}
address_spaces = *
"""


class Hands:
    """A walk whose results are kept."""

    def __init__(self, folder: Path, hop: EvilHop) -> None:
        path = folder / "kmq.conf"
        path.write_text(CONFIGURATION.format(folder=folder, port=hop.port))
        (folder / "status").mkdir()
        self.status = StatusFile(folder / "status", "worker", 1)
        self.ended: list[Job] = []
        self.walk = Walk(load(str(path)), 1, self.status, self.ended.append)

    def shown(self, configuration: int = 1) -> None:
        self.walk.show(Show(NAME, "0", len(line()), len(BODY), configuration), line() + BODY)

    def assigned(self, alone: bool = False) -> None:
        self.walk.begin(Assign(7, NAME, SUBMISSION, "0", 1, len(line()), len(BODY), alone=alone, configuration=1), b"")


def play(folder: Path, story: Callable[[Hands, EvilHop], Awaitable[None]], hop: EvilHop) -> None:
    async def run() -> None:
        async with hop:
            hands = Hands(folder, hop)
            async with asyncio.timeout(20):
                await story(hands, hop)
            await hands.walk.close()
            assert len(hands.status._free) == len(hands.status._lines), (
                "every message has left its line in the status file"
            )
            hands.status.close()

    asyncio.run(run())


def asked(hop: EvilHop) -> bool:
    return any(b"DATA\r\n" in one for one in hop.writes)


def test_a_message_that_was_shown_goes_on_when_it_is_assigned(tmp_path: Path) -> None:
    async def story(hands: Hands, hop: EvilHop) -> None:
        hands.shown()
        await until(lambda: asked(hop), "the server has heard of it")
        assert (hop.messages, hands.walk.jobs) == ([], {})
        hands.assigned()
        await until(lambda: hands.ended, "its result")
        (job,) = hands.ended
        assert job.done is not None
        assert (job.done.n, [type(one) for one in job.events]) == (7, [Routed, Delivered])
        assert [(one.body, len(hop.messages)) for one in hop.messages] == [(BODY, 1)]

    play(tmp_path, story, EvilHop())


def test_a_message_that_is_taken_back_goes_nowhere(tmp_path: Path) -> None:
    async def story(hands: Hands, hop: EvilHop) -> None:
        hands.shown()
        await until(lambda: asked(hop), "the server has heard of it")
        hands.walk.unshow()
        await until(lambda: hop.open == 0, "the connection ends")
        assert (hop.messages, hands.ended, hands.walk.jobs) == ([], [], {})
        hands.shown()
        hands.shown()  # another one comes: the first was nobody's
        hands.assigned()
        await until(lambda: hands.ended, "its result")
        assert len(hop.messages) == 1

    play(tmp_path, story, EvilHop())


def test_a_refusal_that_comes_sooner_is_told_when_the_message_is_assigned(tmp_path: Path) -> None:
    async def story(hands: Hands, hop: EvilHop) -> None:
        hands.shown()
        shown = hands.walk._shown
        assert shown is not None
        assert shown.job is not None
        job = shown.job
        await until(lambda: job.done is not None, "the server has refused it")
        assert hands.ended == []
        hands.assigned()
        assert hands.ended == [job]
        assert job.done is not None
        assert (job.done.n, [type(one) for one in job.events]) == (7, [Routed, Failed])

    play(tmp_path, story, EvilHop(refusals={"bob@far.test": "550 5.1.1 nobody"}))


def test_a_server_that_does_not_wait_for_the_sync_is_asked_anew(tmp_path: Path) -> None:
    """Our slow disk is no reason to put the message off until its next attempt."""

    async def story(hands: Hands, hop: EvilHop) -> None:
        hands.shown()
        await until(lambda: asked(hop), "the server has heard of it")
        for session in list(hop._sessions):
            session.transport.close()
        shown = hands.walk._shown
        assert shown is not None
        assert shown.job is not None
        job = shown.job
        await until(lambda: job.done is not None, "it was cut off")
        hands.assigned()
        await until(lambda: hands.ended, "its result")
        assert [[type(event) for event in one.events] for one in hands.ended] == [[Routed, Delivered]]
        assert len(hop.messages) == 1

    play(tmp_path, story, EvilHop())


def test_a_hop_that_was_closed_meanwhile_gets_no_text(tmp_path: Path) -> None:
    async def story(hands: Hands, hop: EvilHop) -> None:
        hands.shown()
        await until(lambda: asked(hop), "the server has heard of it")
        shown = hands.walk._shown
        assert shown is not None
        assert shown.job is not None
        (routed,) = shown.job.routed
        assert isinstance(routed, Routed)
        hands.walk.closed = frozenset({routed.hop})
        hands.assigned()
        await until(lambda: hands.ended and hop.open == 0, "it waits, and the connection ends")
        assert [[type(event) for event in one.events] for one in hands.ended] == [[Routed]]
        assert hop.messages == []

    play(tmp_path, story, EvilHop())


@pytest.mark.parametrize("case", ["alone", "configuration"])
def test_a_message_that_is_assigned_otherwise_begins_anew_with_the_text_it_came_with(tmp_path: Path, case: str) -> None:
    async def story(hands: Hands, hop: EvilHop) -> None:
        hands.shown(configuration=2 if case == "configuration" else 1)
        hands.assigned(alone=case == "alone")
        await until(lambda: hands.ended, "its result")
        assert [one.body for one in hop.messages] == [BODY]
        assert hands.ended[0].assign.alone is (case == "alone")

    play(tmp_path, story, EvilHop())


def test_a_message_whose_configuration_is_not_there_yet_waits_with_its_text(tmp_path: Path) -> None:
    async def story(hands: Hands, hop: EvilHop) -> None:
        hands.shown()
        await until(lambda: asked(hop), "the server has heard of it")
        assign = Assign(7, NAME, SUBMISSION, "0", 1, len(line()), len(BODY), configuration=2)
        raw = hands.walk.text(assign, b"")
        await until(lambda: hop.open == 0, "the connection ends")
        hands.walk.begin(assign, raw)
        await until(lambda: hands.ended, "its result")
        assert [one.body for one in hop.messages] == [BODY]

    play(tmp_path, story, EvilHop())
