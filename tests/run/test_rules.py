"""J9, J10 and J14 (docs/ARCHITECTURE.md), each clause as a story of real processes; and each story notices when its
clause is left out (tests/run/mutants).
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from kmq.model import hop
from kmq.model.envelope import Head, Recipient, Source, head_tail
from kmq.model.event import Deferred, Failed, Moved, Passed, Removing, Routed, Suspended
from kmq.model.frame import Assign
from kmq.model.phase import Phase
from kmq.run.share import TAKEN_OUT
from kmq.spool.processes import read
from kmq.spool.status import status_path
from tests.mailbag import Mailbag
from tests.run.stage import FAR, Broken, Hop, Stage, holds, until

Story = Callable[[Path, str], Awaitable[None]]
SUBMISSION = str(hop.SUBMISSION)


# --- J9: a worker dies ------------------------------------------------------------------------------------------------


async def freed_only_when_reaped(folder: Path, mutant: str) -> None:
    """A socket that ends while the process lives frees nothing; the reaping does."""
    async with Stage(folder, mutant) as stage:
        await stage.scheduler()
        crew = await stage.crew()
        mail = await stage.receiver.mail()
        holder = await stage.holder(mail, crew)
        other = next(one for one in crew if one is not holder)
        holder.hang_up()
        await stage.rounds(other)
        holds(not other.given(mail), "freed although the process that has it lives")
        holder.die()
        stage.reap(holder)
        await other.gets(mail)


async def a_dead_workers_result_counts(folder: Path, mutant: str) -> None:
    """It wrote its result and died: the result is in its socket, whatever is heard of first."""
    async with Stage(folder, mutant) as stage:
        await stage.scheduler()
        crew = await stage.crew()
        mail = await stage.receiver.mail()
        holder = await stage.holder(mail, crew)
        other = next(one for one in crew if one is not holder)
        stage.stop()
        holder.delivers(await holder.gets(mail))
        await asyncio.sleep(0)  # it is written
        holder.die()
        stage.reap(holder)
        stage.go()
        await stage.rounds(other)
        holds(not other.given(mail), "given out again although it was delivered")
        holds(not (await stage.operator("message", mail)).lines, "still there although it was delivered")


async def a_successor_speaks_before_its_predecessor_is_settled(folder: Path, mutant: str) -> None:
    """Whichever is heard first: the hello of the next worker 1, the end of the last one's socket, its reaping."""
    async with Stage(folder, mutant) as stage:
        await stage.scheduler()
        first = stage.actor(1)
        await first.come()
        mail = await stage.receiver.mail()
        await first.gets(mail)
        stage.stop()
        second = stage.actor(1)
        await second.come()
        first.die()
        stage.reap(first)
        stage.go()
        holds(await second.gets(mail), "what the dead one had goes to its successor")


async def a_worker_dies_before_the_scheduler_process_is_ready(folder: Path, mutant: str) -> None:
    """It came, said what it holds, and was dead before anybody listened."""
    async with Stage(folder, mutant) as stage:
        await stage.scheduler()
        one, two = await stage.crew()
        mail = await stage.receiver.mail()
        holder = await stage.holder(mail, (one, two))
        other = two if holder is one else one
        has = await holder.gets(mail)
        await stage.kill_scheduler()
        await holder.come(has)
        holder.die()
        await stage.scheduler(one, two)
        stage.reap(holder)
        await other.come()
        await other.gets(mail)


async def a_dead_workers_last_word_waits_in_the_backlog(folder: Path, mutant: str) -> None:
    """It delivered, came to the new scheduler process with its result, and was reaped before that one was there."""
    async with Stage(folder, mutant) as stage:
        await stage.scheduler()
        one, two = await stage.crew()
        mail = await stage.receiver.mail()
        holder = await stage.holder(mail, (one, two))
        other = two if holder is one else one
        has = await holder.gets(mail)
        await stage.kill_scheduler()
        await holder.come()
        holder.delivers(has)
        await asyncio.sleep(0)
        holder.die()
        await stage.scheduler(other)
        await other.come()
        await stage.rounds(other)
        holds(not other.given(mail), "given out again although it was delivered")


# --- J10: the scheduler process dies ----------------------------------------------------------------------------------


async def nothing_is_assigned_before_all_have_reported(folder: Path, mutant: str) -> None:
    async with Stage(folder, mutant) as stage:
        await stage.scheduler()
        crew = await stage.crew()
        mail = await stage.receiver.mail()
        holder = await stage.holder(mail, crew)
        other = next(one for one in crew if one is not holder)
        has = await holder.gets(mail)
        await stage.kill_scheduler()
        await stage.scheduler(*crew)
        await other.come()
        later = await stage.receiver.mail()
        await stage.receiver.mail()
        await holder.come(has)
        await stage.holder(later, crew)
        holds(not other.given(mail), "given to one while another had it")
        holder.delivers(has)
        await until(lambda: holder.known(has.n), "the result is known")


async def a_worker_that_never_comes_back_is_waited_for_until_it_is_reaped(folder: Path, mutant: str) -> None:
    async with Stage(folder, mutant) as stage:
        await stage.scheduler()
        crew = await stage.crew()
        mail = await stage.receiver.mail()
        holder = await stage.holder(mail, crew)
        other = next(one for one in crew if one is not holder)
        await stage.kill_scheduler()
        await stage.scheduler(*crew)
        await other.come()
        await stage.receiver.mail()
        await stage.receiver.mail()
        holds(not other.peer.heard(Assign), "assigned while one that lives has not spoken")
        holder.die()
        stage.reap(holder)
        await other.gets(mail)


async def the_unbegun_is_reported_too(folder: Path, mutant: str) -> None:
    """A real worker has one message at the hop, and one that waits for the only connection."""
    hop = Hop()
    await hop.start()
    async with Stage(folder, mutant, hop=hop.port) as stage:
        worker = stage.begin("worker")
        await stage.scheduler(worker=worker.pid)
        await stage.receiver.mail(text="first")
        await until(lambda: hop.copies["first"], "the first is at the hop")
        second = await stage.receiver.mail(text="second")
        await until(lambda: second in waiting_for_hop(stage), "the worker has the second")
        await stage.kill_scheduler()
        await stage.scheduler(worker=worker.pid)
        await stage.all_loaded()
        third = await stage.receiver.mail(text="third")
        while (await stage.operator("message", third)).lines[0]["Queue"] == "Submission":
            await asyncio.sleep(0.01)  # behind the second in its queue, or in the worker's hands
        hop.answering.set()
        await stage.nothing_queued()
        holds(hop.copies == {"first": 1, "second": 1, "third": 1}, f"delivered again: {hop.copies}")


async def a_result_is_kept_until_it_is_known(folder: Path, mutant: str) -> None:
    """A real worker tells its result to a scheduler process that dies before it has read it."""
    hop = Hop()
    await hop.start()
    async with Stage(folder, mutant, hop=hop.port) as stage:
        worker = stage.begin("worker")
        await stage.scheduler(worker=worker.pid)
        await stage.receiver.mail(text="first")
        await until(lambda: hop.copies["first"], "it is at the hop")
        stage.stop()
        hop.answering.set()
        await until(lambda: not in_hand(stage), "the worker has its result")
        await stage.kill_scheduler()
        await stage.scheduler(worker=worker.pid)
        await stage.all_loaded()
        await stage.nothing_queued()
        holds(hop.copies["first"] == 1, "delivered again")


async def a_known_result_is_recognised(folder: Path, mutant: str) -> None:
    """It was recorded, the worker did not hear so, and says it again."""
    async with Stage(folder, mutant) as stage:
        worker, mail, has = await stage.begun()
        worker.defers(has)
        await until(lambda: worker.known(has.n), "it is recorded")
        await stage.kill_scheduler()
        await stage.scheduler(worker)
        await worker.come()
        worker.defers(has)
        await until(lambda: worker.known(has.n), "it is acknowledged again")
        worker.delivers(await worker.gets(await stage.receiver.mail()))
        later = await stage.receiver.mail()
        await until(lambda: stage.envelope(later), "the files are as the journal says")
        holds(stage.envelope(mail).count('"event":"deferred"') == 1, "one result is in the envelope twice")


async def what_has_passed_a_phase_is_recognised(folder: Path, mutant: str) -> None:
    """The same of a result that is no attempt: it was held by a phase, which sent a letter; that goes out once."""
    async with Stage(folder, mutant) as stage:
        worker, mail, has = await stage.begun()
        head = Head("", "", "", "", [Recipient("audit@near.test")], 17, Source(how="rule"), parent=mail)
        passed = Passed(phase="Content filtering", step="rules", by="rule", child="0")
        held = Suspended(rcpt="0", by="rule", reason="look")
        say = worker.says(has, passed, held, letter=(head_tail(head), b"Subject: x\r\n\r\ny\r\n"))
        await until(lambda: worker.known(has.n), "it is recorded")
        await stage.kill_scheduler()
        await stage.scheduler(worker)
        await worker.come()
        await stage.all_loaded()
        say()
        await until(lambda: worker.known(has.n), "it is acknowledged again")
        later = await stage.receiver.mail()
        await until(lambda: stage.envelope(later), "the files are as the journal says")
        holds(stage.envelope(mail).count('"event":"passed"') == 1, "one step is in the envelope twice")
        letters = [one for one in (folder / "spool" / "queue").glob("*/*.env") if "audit@" in one.read_text()]
        holds(len(letters) == 1, "the letter was made twice")


async def what_nobody_knows_is_acknowledged(folder: Path, mutant: str) -> None:
    async with Stage(folder, mutant) as stage:
        worker = await stage.first_worker()
        has = await worker.gets(await stage.receiver.mail())
        worker.delivers(Assign(4711, "69212ad0-0000a1f3", FAR, "0", 1))
        worker.delivers(has)
        await until(lambda: worker.known(has.n), "the other one is known")
        holds(worker.known(4711), "the worker would keep it for ever")


async def the_attempt_is_counted_from_the_log(folder: Path, mutant: str) -> None:
    """It was deferred once, and the second attempt is under way while the scheduler process is replaced."""
    async with Stage(folder, mutant, retry="10ms") as stage:
        worker = await stage.first_worker()
        mail = await stage.receiver.mail()
        worker.defers(await worker.gets(mail))
        await until(lambda: len(worker.given(mail)) == 2, "it is tried again")
        has = worker.given(mail)[-1]
        assert has.attempt == 2
        await stage.kill_scheduler()
        await stage.scheduler(worker)
        await worker.come(has)
        await worker.gets(await stage.receiver.mail())
        holds(not worker.given(mail), "given out a second time")
        worker.delivers(has)
        await until(lambda: worker.known(has.n), "its result is known")
        await until(lambda: not stage.envelope(mail), "it is done with")


async def a_token_is_answered_by_a_later_run(folder: Path, mutant: str) -> None:
    """The put was durable, its answer was not heard: it is in the queue, and its sender must not send it again."""
    async with Stage(folder, mutant) as stage:
        await stage.scheduler()
        token = stage.receiver.put("bob@far.test")
        await until(lambda: stage.receiver.stored(token), "it is durable")
        name = stage.receiver.stored(token)
        await stage.kill_scheduler()
        await stage.scheduler()
        holds(await stage.receiver.asks(token) == name, "the sender is told to send a second copy")
        holds(await stage.receiver.asks("ab" * 16) == "", "a put that never came is said to be durable")


async def a_result_is_acknowledged_when_it_is_durable(folder: Path, mutant: str) -> None:
    async with Stage(folder, mutant) as stage:
        worker = await stage.first_worker()
        has = await worker.gets(await stage.receiver.mail())
        stage.gate.touch()
        worker.delivers(has)
        worker.delivers(Assign(4711, "69212ad0-0000a1f3", FAR, "0", 1))
        await until(lambda: worker.known(4711), "what was said later is answered")
        holds(not worker.known(has.n), "acknowledged although it is not durable")
        stage.gate.unlink()
        await until(lambda: worker.known(has.n), "it is durable")


# --- J14: the operator ------------------------------------------------------------------------------------------------


async def a_removal_waits_for_whoever_has_it(folder: Path, mutant: str) -> None:
    async with Stage(folder, mutant, retry="10ms") as stage:
        worker, mail, has = await stage.begun()
        answer = await stage.operator("remove", mail)
        holds([line["Result"] for line in answer.lines] == ["pending"], "said to be removed while it is delivered")
        worker.defers(has)
        await until(lambda: worker.known(has.n), "it comes back")
        await until(lambda: not stage.envelope(mail), "it is removed")
        await stage.rounds(worker)
        holds(len(worker.given(mail)) == 1, "given out after the operator's word")


async def a_removal_waits_for_reports(folder: Path, mutant: str) -> None:
    """A new scheduler process does not know yet who has what."""
    async with Stage(folder, mutant) as stage:
        worker, mail, has = await stage.begun()
        await stage.kill_scheduler()
        await stage.scheduler(worker)
        answer = await stage.operator("remove", mail)
        holds([line["Result"] for line in answer.lines] == ["pending"], "said to be removed while it is delivered")
        await worker.come(has)
        worker.delivers(has)
        await until(lambda: worker.known(has.n), "it was delivered")
        holds(not (await stage.operator("message", mail)).lines, "it is gone")


async def a_removal_is_answered_when_it_is_durable(folder: Path, mutant: str) -> None:
    async with Stage(folder, mutant) as stage:
        await stage.scheduler()
        mail = await stage.receiver.mail()
        stage.gate.touch()
        answer = asyncio.create_task(stage.operator("remove", mail))
        for _ in range(3):
            await stage.operator("message", mail)
        holds(not answer.done(), "answered although it is not durable")
        stage.gate.unlink()
        holds([line["Result"] for line in (await answer).lines] == ["removed"], "removed")
        holds(not (await stage.operator("message", mail)).lines, "it is gone")


async def a_pending_removal_outlives_the_scheduler_process(folder: Path, mutant: str) -> None:
    """It comes about when the work in hand has ended, in the next process too, and not before."""
    async with Stage(folder, mutant, retry="10ms") as stage:
        worker, mail, has = await stage.begun()
        answer = await stage.operator("remove", mail)
        holds([line["Result"] for line in answer.lines] == ["pending"], "said to be removed while it is delivered")
        await stage.kill_scheduler()
        await stage.scheduler(worker)
        await stage.all_loaded()
        holds(stage.envelope(mail), "removed while somebody may have it in hand")
        await worker.come(has)
        await stage.rounds(worker)
        await stage.operator("settle")
        holds(stage.envelope(mail), "removed while somebody has it in hand")
        worker.defers(has)
        await until(lambda: worker.known(has.n), "it comes back")
        await until(lambda: not stage.envelope(mail) or worker.given(mail), "it is removed")
        holds(not worker.given(mail), "given out after the operator's word")


async def a_removal_is_not_forgotten_in_poison(folder: Path, mutant: str) -> None:
    """It came while the message was on its way there, and then the machine was off."""
    async with Stage(folder, mutant) as stage:
        await stage.scheduler()
        await stage.kill_scheduler()
        bag = Mailbag(stage.spool)
        gone = bag.lay(Removing(by="uid 0"), Moved(home="poison", reason="it kills"), home="poison")
        stays = bag.lay(Moved(home="poison", reason="it kills"), home="poison")
        await stage.scheduler()
        await stage.all_loaded()
        await stage.operator("settle")
        holds(not (stage.spool / "poison" / f"{gone}.env").exists(), "the operator's word is forgotten")
        holds((stage.spool / "poison" / f"{stays}.env").exists(), "removed although nobody said so")


async def a_pending_suspension_outlives_the_scheduler_process(folder: Path, mutant: str) -> None:
    async with Stage(folder, mutant, retry="10ms") as stage:
        worker = await stage.first_worker()
        mail, other = await stage.receiver.mail(), await stage.receiver.mail()
        has = await worker.gets(mail)
        await worker.gets(other)
        answer = await stage.operator("suspend", f"{SUBMISSION}\\{mail}")
        holds([line["Result"] for line in answer.lines] == ["pending"], "said to be held while it is delivered")
        await stage.kill_scheduler()
        await stage.scheduler(worker)
        await worker.come(has)
        worker.defers(has)
        await worker.gets(other)
        await stage.rounds(worker)
        holds(not worker.given(mail), "given out although it is suspended")
        (line,) = (await stage.operator("message", mail)).lines
        holds((line["NextHop"], line["Status"]) == (FAR, "Suspended"), "held in its new queue")
        await stage.operator("resume", f"{FAR}\\{mail}")
        await worker.gets(mail)


async def what_is_removed_with_a_notice_is_told(folder: Path, mutant: str) -> None:
    """The sender is told in one record with the failure, and after a crash too; nobody delivers it meanwhile."""
    async with Stage(folder, mutant) as stage:
        await stage.scheduler()
        mail = await stage.receiver.mail()
        answer = await stage.operator("remove", mail, ndr=True)
        holds([line["Result"] for line in answer.lines] == ["removed"], "nobody has it in hand")
        await until(lambda: stage.envelope(mail), "it has files, whose end is seen below")
        await stage.kill_scheduler()
        worker = await stage.first_worker()
        await until(lambda: worker.given(mail) or not stage.envelope(mail), "something becomes of it")
        holds(worker.given(mail), "nobody is told")
        has = await worker.gets(mail)
        holds(has.expire == TAKEN_OUT, "given out to be delivered")
        worker.says(has, Failed(rcpt=has.rcpt, attempt=has.attempt, reply=has.expire))
        await until(lambda: worker.known(has.n), "it is told")
        await until(lambda: not stage.envelope(mail), "it is removed")


async def some_recipients_are_removed_and_the_rest_goes_on(folder: Path, mutant: str) -> None:
    async with Stage(folder, mutant) as stage:
        worker = await stage.first_worker()
        mail = await stage.receiver.mail("bob@far.test", "carol@near.test")
        has = await worker.gets(mail)
        near = FAR.replace("far", "near")
        worker.says(has, Routed(rcpt="0", hop=FAR, rule="far"), Routed(rcpt="1", hop=near, rule="near"))
        await until(lambda: len(worker.given(mail)) == 3, "each goes its way")
        for one in worker.given(mail)[1:]:
            worker.says(one, Deferred(rcpt=one.rcpt, attempt=1, reply="450 no"))
        await until(lambda: all(worker.known(one.n) for one in worker.given(mail)), "they have come back")
        answer = await stage.operator("remove", f"{near}\\{mail}")
        holds([line["Result"] for line in answer.lines] == ["removed"], "nobody has it in hand")
        await stage.kill_scheduler()
        await stage.scheduler(worker)
        await worker.come()
        holds(
            [line["Recipients"] for line in (await stage.operator("message", mail)).lines] == ["0"], "the rest is there"
        )
        await stage.operator("remove", f"{FAR}\\{mail}")
        await until(lambda: not stage.envelope(mail), "nothing is left of it")


async def what_is_redirected_stays_so(folder: Path, mutant: str) -> None:
    """Also what was in hand when the word came, and after a crash."""
    async with Stage(folder, mutant, retry="1h") as stage:
        worker, mail, has = await stage.begun()
        answer = await stage.operator("redirect", mail, connector="far")
        holds([line["Result"] for line in answer.lines] == ["pending"], "it is in hand")
        await stage.kill_scheduler()
        await stage.scheduler(worker)
        await worker.come(has)
        worker.defers(has)
        await until(lambda: worker.known(has.n), "it comes back")
        await stage.rounds(worker)
        holds(worker.given(mail), "it waits where it waited")
        again = worker.given(mail)[-1]
        holds(
            (again.hop, again.forced, again.attempt) == (SUBMISSION, "far", 2), "sent back at once, to that connector"
        )


async def a_suspended_queue_outlives_the_scheduler_process(folder: Path, mutant: str) -> None:
    async with Stage(folder, mutant, retry="10ms") as stage:
        worker, mail, has = await stage.begun()
        worker.says(has, Routed(rcpt="0", hop=FAR, rule="far"))
        await until(lambda: len(worker.given(mail)) == 2, "its queue is there")
        answer = await stage.operator("suspend", queue=FAR, reason="we look")
        holds(answer.status == 0, "suspended")
        has = worker.given(mail)[1]
        worker.defers(has)
        await until(lambda: worker.known(has.n), "what was in hand has come back")
        await stage.kill_scheduler()
        await stage.scheduler(worker)
        await worker.come()
        await stage.rounds(worker)
        holds(not worker.given(mail), "given out although its queue is suspended")
        line = next(line for line in (await stage.operator("queues")).lines if line["NextHop"] == FAR)
        found = line["Status"], line["HeldBy"], line["Why"]
        holds(found == ("Suspended", f"uid {os.getuid()}: we look", "suspended"), "it is told")
        await stage.operator("resume", queue=FAR)
        await worker.gets(mail)


STORIES: list[Story] = [
    freed_only_when_reaped,
    a_dead_workers_result_counts,
    a_successor_speaks_before_its_predecessor_is_settled,
    a_worker_dies_before_the_scheduler_process_is_ready,
    a_dead_workers_last_word_waits_in_the_backlog,
    nothing_is_assigned_before_all_have_reported,
    a_worker_that_never_comes_back_is_waited_for_until_it_is_reaped,
    the_unbegun_is_reported_too,
    a_result_is_kept_until_it_is_known,
    a_known_result_is_recognised,
    what_has_passed_a_phase_is_recognised,
    what_nobody_knows_is_acknowledged,
    the_attempt_is_counted_from_the_log,
    a_token_is_answered_by_a_later_run,
    a_result_is_acknowledged_when_it_is_durable,
    a_removal_waits_for_whoever_has_it,
    a_removal_waits_for_reports,
    a_removal_is_answered_when_it_is_durable,
    a_pending_removal_outlives_the_scheduler_process,
    a_removal_is_not_forgotten_in_poison,
    a_pending_suspension_outlives_the_scheduler_process,
    what_is_removed_with_a_notice_is_told,
    some_recipients_are_removed_and_the_rest_goes_on,
    what_is_redirected_stays_so,
    a_suspended_queue_outlives_the_scheduler_process,
]

#: A clause left out, and the story that notices.
NOTICED: dict[str, Story] = {
    "J9 freed before it is reaped": freed_only_when_reaped,
    "J9 result of a dead worker dropped": a_dead_workers_result_counts,
    "J10 does not wait for reports": nothing_is_assigned_before_all_have_reported,
    "J10 unbegun not reported": the_unbegun_is_reported_too,
    "J10 result forgotten before it is known": a_result_is_kept_until_it_is_known,
    "J10 acknowledged before the sync": a_result_is_acknowledged_when_it_is_durable,
    "J10 known result not recognised": a_known_result_is_recognised,
    "J10 passed phase not recognised": what_has_passed_a_phase_is_recognised,
    "J10 unknown message not acknowledged": what_nobody_knows_is_acknowledged,
    "J10 attempt not counted from the log": the_attempt_is_counted_from_the_log,
    "J10 no token": a_token_is_answered_by_a_later_run,
    "J14 remove does not wait": a_removal_waits_for_whoever_has_it,
    "J14 remove does not wait for reports": a_removal_waits_for_reports,
    "J14 remove answered before the sync": a_removal_is_answered_when_it_is_durable,
    "J14 pending removal forgotten": a_pending_removal_outlives_the_scheduler_process,
    "J14 removal forgotten in poison": a_removal_is_not_forgotten_in_poison,
    "J14 pending removal while in hand": a_pending_removal_outlives_the_scheduler_process,
    "J14 pending suspension forgotten": a_pending_suspension_outlives_the_scheduler_process,
    "J14 removed before it is told": what_is_removed_with_a_notice_is_told,
    "J14 redirection forgotten": what_is_redirected_stays_so,
    "J14 suspended queue forgotten": a_suspended_queue_outlives_the_scheduler_process,
}


def in_hand(stage: Stage, phase: str = "") -> list[str]:
    """IDs that worker 1 shows in its status file, all or those in a phase."""
    shown = read(status_path(stage.spool / "status", "worker-1")).in_hand
    return [one.id for one in shown if phase in ("", one.status)]


def waiting_for_hop(stage: Stage) -> list[str]:
    """Those that have a connection, or wait for one."""
    return in_hand(stage, Phase.SMTP.value)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_the_rule_holds(story: Story, tmp_path: Path) -> None:
    asyncio.run(story(tmp_path, ""))


@pytest.mark.parametrize("mutant", NOTICED)
def test_a_clause_left_out_is_noticed(mutant: str, tmp_path: Path) -> None:
    with pytest.raises(Broken):
        asyncio.run(NOTICED[mutant](tmp_path, mutant))
