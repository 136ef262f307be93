"""What outlives the scheduler process beside the mail: suspended queues, and the GUIDs of connectors."""

import asyncio
import time
import uuid
from pathlib import Path

import pytest

from kmq.config import read
from kmq.config.sections import QueueSection
from kmq.run.assignment import Start
from kmq.run.holds import Holds
from kmq.run.identities import Identities
from kmq.run.renaming import Renaming
from kmq.run.scheduler import Scheduler
from kmq.spool import kept
from kmq.spool.disk import Disk
from tests.run.desk import DEAD, ISP, SUBMISSION
from tests.spool.ghost import Dead, GhostDisk, Kernel

ZEROS = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    (tmp_path / "state").mkdir()
    return Disk(tmp_path)


def connectors(*texts: str):
    found = read("".join(texts), "kmq.conf", "/etc/kmq", "mx.example.org")
    return found.connectors


def smart(name: str, hosts: str = "isp.example", more: str = "") -> str:
    return f"[{name} : connector]\ntype = smarthost\naddress_spaces = *\nhosts = {hosts}\n{more}\n"


# --- the files --------------------------------------------------------------------------------------------------------


def test_a_power_cut_leaves_the_old_file_or_the_new_one() -> None:
    kernel = Kernel()
    disk = GhostDisk(kernel)
    disk.make_folder("state")
    disk.sync_folder(".")
    kept.replace(disk, "queues", [b'{"n":1}', b'{"n":2}'])
    steps = _steps(kernel, lambda one: kept.replace(one, "queues", [b'{"n":3}']))
    assert steps > 4
    for step in range(steps + 1):
        for seed in range(5):
            after = _cut_at(kernel, step, lambda one: kept.replace(one, "queues", [b'{"n":3}'])).after_cut(seed)
            found, damaged = kept.read(GhostDisk(after), "queues")
            assert found in ([b'{"n":1}', b'{"n":2}'], [b'{"n":3}']), (step, seed)
            assert found == [b'{"n":3}'] or step < steps, "it was said to be durable"
            assert not damaged
            kept.replace(GhostDisk(after), "queues", [b'{"n":4}'])
            assert kept.read(GhostDisk(after), "queues") == ([b'{"n":4}'], 0)


def _steps(kernel: Kernel, work) -> int:
    count = 0

    def watch(*_: object) -> None:
        nonlocal count
        count += 1

    disk = GhostDisk(kernel.copy())
    disk.watch = watch
    work(disk)
    return count


def _cut_at(kernel: Kernel, step: int, work) -> Kernel:
    other = kernel.copy()
    left = step

    def watch(*_: object) -> None:
        nonlocal left
        if left == 0:
            raise Dead
        left -= 1

    disk = GhostDisk(other)
    disk.watch = watch
    try:
        work(disk)
    except Dead:
        pass
    return other


def test_a_damaged_line_spoils_only_itself(disk: Disk) -> None:
    assert kept.read(disk, "queues") == ([], 0)
    kept.replace(disk, "queues", [b'{"n":1}', b'{"n":2}'])
    path = Path(disk.root, "state", "queues")
    path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":7'))
    assert kept.read(disk, "queues") == ([b'{"n":2}'], 1)


# --- suspended queues -------------------------------------------------------------------------------------------------


def core() -> Scheduler:
    return Scheduler(QueueSection(), lambda: 0.5, Start(0.0, 1_700_000_000.0))


def test_suspended_queues_are_suspended_again_also_empty_ones(disk: Disk) -> None:
    async def story() -> None:
        first = core()
        for hop, by in ((ISP, "uid 0: a look"), (DEAD, "grace hold: 535"), (SUBMISSION, "uid 1000")):
            first.verbs.suspend_queue(hop, 0.0, by, make=True)
        await Holds(first, disk).keep()
        first.verbs.resume_queue(SUBMISSION, 0.0)
        await Holds(first, disk).keep()
        second = core()
        assert Holds(second, disk).load() == 2
        assert second.verbs.held_queues() == {ISP: "uid 0: a look", DEAD: "grace hold: 535"}
        assert second.closed() == sorted([ISP, DEAD])

    asyncio.run(story())


def test_many_words_at_once_are_few_writings_and_each_is_answered_when_it_is_durable(disk: Disk) -> None:
    class Counting(Disk):
        written = 0

        def rename(self, old: str, new: str) -> None:
            self.written += 1
            if self.written == 2:
                raise OSError(28, "No space left on device")
            super().rename(old, new)

    counting = Counting(Path(disk.root))

    async def story() -> list[set[str] | OSError]:
        found = core()
        holds = Holds(found, counting)

        async def word(number: int) -> set[str] | OSError:
            hop = ISP.replace("isp.example", f"d{number}.example")
            found.verbs.suspend_queue(hop, 0.0, "uid 0", make=True)
            try:
                await holds.keep()
            except OSError as error:
                return error
            texts, _ = kept.read(disk, kept.QUEUES)
            assert any(hop.encode() in text for text in texts), "said to be durable"
            return found.verbs.held_queues().keys()

        first = asyncio.ensure_future(word(0))
        await asyncio.sleep(0)
        return await asyncio.gather(first, *(word(number) for number in range(1, 500)))

    answers = asyncio.run(story())
    assert counting.written == 3, "the first, one for all that came meanwhile, and once more when that failed"
    assert sum(isinstance(one, OSError) for one in answers) == 1, "who asked for what could not be written hears so"
    again = core()
    assert Holds(again, disk).load() == 500


def test_a_file_that_means_nothing_suspends_nothing_and_stops_nobody(disk: Disk) -> None:
    kept.replace(disk, "queues", [b'{"hop":"x;y","by":"uid 0"}', b"[]", b'{"hop":7}'])
    found = core()
    Holds(found, disk).load()
    assert found.verbs.held_queues() == {}


# --- GUIDs ------------------------------------------------------------------------------------------------------------


def test_a_connector_keeps_its_guid(disk: Disk) -> None:
    first = Identities(disk)
    assert first.take(connectors(smart("isp"), smart("other", "elsewhere.example"))) == ({}, True)
    first.keep()
    guid = first.of("isp")
    assert uuid.UUID(guid).version == 4
    assert first.of("other") not in (guid, ZEROS)
    assert first.of("") == first.of("nobody") == ZEROS
    second = Identities(disk)
    assert second.take(connectors(smart("isp"), smart("other", "elsewhere.example"))) == ({}, False)
    assert second.of("isp") == guid


def test_the_same_way_out_under_another_name_is_the_same_connector(disk: Disk) -> None:
    names = Identities(disk)
    names.take(connectors(smart("isp"), smart("other", "elsewhere.example")))
    guid = names.of("isp")
    assert names.take(connectors(smart("line"), smart("other", "elsewhere.example"))) == ({"isp": "line"}, True)
    assert (names.of("line"), names.of("isp")) == (guid, ZEROS)
    assert names.former == {"isp": "line"}
    names.keep()
    names = Identities(disk)
    assert names.take(connectors(smart("cable"), smart("other", "elsewhere.example")))[0] == {"line": "cable"}
    assert names.former == {"isp": "cable", "line": "cable"}
    names.take(connectors(smart("cable"), smart("isp", "new.example"), smart("other", "elsewhere.example")))
    assert names.former == {"line": "cable"}, "another bears the name now"


@pytest.mark.parametrize(
    "after",
    [
        [smart("line", "other.example")],
        [smart("line"), smart("cable")],
        [smart("isp"), smart("line")],
    ],
)
def test_what_is_another_way_or_may_be_one_of_two_gets_a_guid_of_its_own(disk: Disk, after: list[str]) -> None:
    names = Identities(disk)
    names.take(connectors(smart("isp")))
    guid = names.of("isp")
    assert names.take(connectors(*after))[0] == {}
    assert names.of("line") not in (guid, ZEROS)


def test_the_option_says_what_was_renamed_whatever_else_changed(disk: Disk) -> None:
    names = Identities(disk)
    guid = f"guid = {uuid.uuid4()}"
    names.take(connectors(smart("isp", more=guid), smart("other", "b.example")))
    after = connectors(smart("line", "new.example", guid), smart("cable"), smart("other", "b.example"))
    assert names.take(after)[0] == {"isp": "line"}
    assert names.of("line") == guid.removeprefix("guid = ")


def test_a_connector_that_was_away_for_a_while_has_its_guid_again(disk: Disk) -> None:
    names = Identities(disk)
    names.take(connectors(smart("isp"), smart("other", "b.example")))
    guid = names.of("isp")
    names.take(connectors(smart("other", "b.example")))
    names.keep()
    names = Identities(disk)
    names.take(connectors(smart("isp"), smart("other", "b.example")))
    assert names.of("isp") == guid


# --- renaming ---------------------------------------------------------------------------------------------------------

OURS = ISP.replace("isp.example", "isp.example:25")


async def begun(disk: Disk, *texts: str) -> Scheduler:
    """As a scheduler process begins with this configuration; what it keeps is kept."""
    found = core()
    holds = Holds(found, disk)
    renaming = Renaming(found, Identities(disk), holds, None)  # type: ignore[arg-type]
    renaming.begin(connectors(*texts))
    holds.load()
    await settled()
    return found


async def settled() -> None:
    """All that was begun beside has ended."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


def test_a_queue_stays_suspended_when_its_connector_was_renamed_and_another_took_the_name(disk: Disk) -> None:
    async def story() -> None:
        first = await begun(disk, smart("isp"))
        first.verbs.suspend_queue(OURS, 0.0, "uid 0", make=True)
        await Holds(first, disk).keep()
        renamed = OURS.removesuffix("isp") + "line"
        assert (await begun(disk, smart("line"))).verbs.held_queues() == {renamed: "uid 0"}
        third = await begun(disk, smart("line"), smart("isp", "elsewhere.example"))
        assert third.verbs.held_queues() == {renamed: "uid 0"}, "not that of another connector"

    asyncio.run(story())


def test_a_full_disk_keeps_no_scheduler_process_from_starting(disk: Disk) -> None:
    class Full(Disk):
        def create(self, name: str) -> int:
            raise OSError(28, "No space left on device")

    asyncio.run(begun(Full(Path(disk.root)), smart("isp")))
    assert kept.read(disk, kept.CONNECTORS) == ([], 0)


def test_configurations_that_come_together_are_kept_one_after_the_other(disk: Disk) -> None:
    class Slow(Disk):
        writing = 0

        def create(self, name: str) -> int:
            self.writing += 1
            assert self.writing == 1, "two write the same file"
            return super().create(name)

        def rename(self, old: str, new: str) -> None:
            time.sleep(0.02)
            super().rename(old, new)
            self.writing -= 1

    slow = Slow(Path(disk.root))

    async def story() -> None:
        found, names = core(), Identities(slow)
        renaming = Renaming(found, names, Holds(found, slow), None)  # type: ignore[arg-type]
        for text in ("a.example", "b.example", "c.example"):
            renaming.configure(connectors(smart("isp", text)))
        await settled()
        assert Identities(disk).take(connectors(smart("line", "c.example")))[0] == {"isp": "line"}

    asyncio.run(story())
