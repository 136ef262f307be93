"""Delivery agent: mail goes to a program that lives on, and answers for each recipient (Exchange's delivery agent).

Promise:  each Work is reported once. A program that stands still occupies the messages that it has, and those of its
          connector that the scheduler gives ahead, nothing else. It is begun when there is mail for it, at once after a
          death that followed an answer, else later each time; meanwhile its queue is out of reach, and waits.
On crash: messages without a report are handed over again: see phases.work. The ID, the recipient and the attempt are
          the same in all of them, so an agent can know what it has delivered.
Callers:  phases.ways.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from kmq import log
from kmq.config.sections import ConnectorSection
from kmq.model.reply import Reply
from kmq.phases.agent_file import FOLDER, File, write
from kmq.phases.agent_program import FAREWELL, Program, State
from kmq.phases.allotment import Allotment
from kmq.phases.body import BodyDamaged
from kmq.phases.delivery import Delivery
from kmq.phases.rendering import note_rewritten

#: For what waits when the connector is taken out of the configuration.
GONE = Reply(451, "4.3.5", "the configuration does not have this connector any more")

WRITERS = 2  #: threads that write messages down
WAITS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  #: seconds before a program is begun anew that never answered


class Agent:
    """One connector. allotment: which of its programs are this worker's; numbers: of messages, in this worker."""

    def __init__(self, section: ConnectorSection, spool: str, allotment: Allotment, numbers: Iterator[int]) -> None:
        self._section = section
        self._spool = spool
        self._allotment = allotment
        self._numbers = numbers
        self._waiting: deque[Delivery] = deque()
        self._programs: list[Program] = []
        self._failures = 0
        self._not_before = 0.0
        self._why = ""
        self._closed = False
        self._threads = ThreadPoolExecutor(WRITERS, thread_name_prefix="kmq-agent")

    @property
    def busy(self) -> bool:
        return bool(self._waiting) or any(not program.idle for program in self._programs)

    def take(self, delivery: Delivery) -> None:
        """Hands a message over as soon as a program has room. Returns at once."""
        self._waiting.append(delivery)
        self._go_on()

    def replace(self, section: ConnectorSection) -> None:
        """The configuration changed: programs end when they have answered for what they have, and others follow."""
        self._section = section
        self._failures, self._not_before = 0, 0.0
        for program in self._programs:
            program.leave()

    def allot(self, allotment: Allotment) -> None:
        """So many programs from now on."""
        self._allotment = allotment
        living = [one for one in self._programs if one.state in (State.STARTING, State.SERVING)]
        for program in living[self._most() :]:
            program.leave()

    def retire(self) -> None:
        """The connector is no more: what waits finds another way, and programs end when they have answered."""
        self._closed = True
        self._refuse(GONE)
        for program in self._programs:
            program.leave()

    async def close(self, grace: float, why: Reply) -> None:
        """Waits up to `grace` seconds for answers, then ends all; bounded by that and 3 seconds."""
        self._closed = True
        self._refuse(why)
        await self._until(lambda: not self.busy, grace)
        for program in self._programs:
            program.abandon(why)
        await self._until(lambda: not self._programs, 3 * FAREWELL)
        self._threads.shutdown(wait=False)

    async def _until(self, true: Callable[[], bool], patience: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while not true() and loop.time() < deadline:
            await asyncio.sleep(0.01)

    # --- handing over -------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        for program in self._programs:
            while self._waiting and program.state is State.SERVING and program.room:
                self._write_down(program, self._waiting.popleft())
        coming = sum(one.room for one in self._programs if one.state is State.STARTING)
        while coming < len(self._waiting) and len(self._programs) < self._most() and self._may_begin():
            self._programs.append(Program(self._section, self._spool, self))
            coming += self._section.in_flight
        if self._waiting and not self._programs:
            wait = self._not_before - asyncio.get_running_loop().time()
            self._refuse(Reply(451, "4.3.2", f"the agent is begun anew in {max(1.0, wait):.0f} s: {self._why}"[:500]))

    def _most(self) -> int:
        """Programs that this worker may have. What is given to one that has none is carried all the same."""
        return max(1, self._allotment.queue(self._section, self._section.name))

    def _may_begin(self) -> bool:
        return not self._closed and asyncio.get_running_loop().time() >= self._not_before

    def _write_down(self, program: Program, delivery: Delivery) -> None:
        program.reserved += 1
        number = next(self._numbers)
        name = self._section.name.replace("/", "_")[:100]
        path = f"{self._spool}/{FOLDER}/{name}.{self._allotment.worker}.{number}.eml"
        loop = asyncio.get_running_loop()
        writing = loop.run_in_executor(self._threads, write, delivery.work, delivery.rewriter, path)
        writing.add_done_callback(partial(self._written_down, program, number, delivery))

    def _written_down(
        self, program: Program, number: int, delivery: Delivery, writing: "asyncio.Future[File | Reply | BodyDamaged]"
    ) -> None:
        error = None if writing.cancelled() else writing.exception()
        found = Reply(451, "4.3.0", f"the message was not written down: {error!r}") if error else writing.result()
        if isinstance(found, File) and not self._closed and program.state in (State.SERVING, State.LEAVING):
            note_rewritten(delivery.work, delivery.rewriter)
            return program.hand(number, delivery, found)
        program.spare()
        if isinstance(found, File):
            found.remove()
            self._waiting.appendleft(delivery)  # the program ended meanwhile, and never had it
            if self._closed:
                self._refuse(GONE)
        elif isinstance(found, BodyDamaged):
            delivery.damaged(str(found))
        else:
            delivery.judge_left(found, "")
            delivery.finish()
        return self._go_on()

    def _refuse(self, why: Reply) -> None:
        waiting, self._waiting = self._waiting, deque()
        for delivery in waiting:
            delivery.unreachable(why)

    # --- what programs tell -------------------------------------------------------------------------------------------

    def roomy(self) -> None:
        """A program has room."""
        self._go_on()

    def gone(self, program: Program, why: str) -> None:
        """A program has ended. One that never answered is not begun again at once."""
        self._programs.remove(program)
        self._why = why
        if program.served:
            self._failures, self._not_before = 0, 0.0
        elif program.section is self._section and not self._closed:
            wait = WAITS[min(self._failures, len(WAITS) - 1)]
            self._failures += 1
            self._not_before = asyncio.get_running_loop().time() + wait
            log.warning("a delivery agent ended without an answer", connector=self._section.name, why=why)
        self._go_on()
