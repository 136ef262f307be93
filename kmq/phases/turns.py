"""Tasks in lines by a key, done in threads: one thread at a time works for a line, some lines at once.

Does:     what has to wait for somebody else (a lock) goes back to its line and is tried again a moment later; no thread
          waits for it, so one mailbox that is locked holds up no other.
Promise:  tasks of a line are done in the order in which they came. Each ends once, with what its work made of it or
          with the exception that this died of.
On crash: nothing is kept.
Callers:  phases.mboxes, phases.pipe.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

Task = TypeVar("Task")

PAUSE = 0.2  #: seconds before what had to wait is tried again


class Turns(Generic[Task]):
    """work: in a thread: does some tasks of a line, and returns those that have to wait. ended: told in the loop of
    each task that is done, and of the exception that it died of.

    width: lines at once, which may change up to `threads`; batch: tasks of a line that one turn takes.
    """

    def __init__(
        self,
        work: Callable[[list[Task]], list[Task]],
        ended: Callable[[Task, BaseException | None], None],
        width: int,
        batch: int = 1,
        threads: int = 0,
    ) -> None:
        self.width = width
        self._work = work
        self._ended = ended
        self._batch = batch
        self._lines: dict[Hashable, deque[Task]] = {}
        self._ready: deque[Hashable] = deque()
        self._running = 0
        self._resting: dict[Hashable, asyncio.TimerHandle] = {}
        self._threads = ThreadPoolExecutor(threads or width, thread_name_prefix="kmq-turns")

    @property
    def busy(self) -> bool:
        return bool(self._lines)

    def put(self, key: Hashable, task: Task) -> None:
        """The task's turn comes."""
        line = self._lines.get(key)
        if line is not None:
            line.append(task)
            return
        self._lines[key] = deque([task])
        self._ready.append(key)
        self._begin()

    def left(self) -> list[Task]:
        """Takes what no thread has in hand out of the lines: it is for the caller to end."""
        for timer in self._resting.values():
            timer.cancel()
        self._resting.clear()
        self._ready.clear()
        found = [task for line in self._lines.values() for task in line]
        for line in self._lines.values():
            line.clear()
        return found

    def stop(self) -> None:
        """No thread is begun any more."""
        self._threads.shutdown(wait=False)

    def _begin(self) -> None:
        while self._ready and self._running < self.width:
            key = self._ready.popleft()
            line = self._lines[key]
            tasks = [line.popleft() for _ in range(min(self._batch, len(line)))]
            self._running += 1
            turn = asyncio.get_running_loop().run_in_executor(self._threads, self._work, tasks)
            turn.add_done_callback(partial(self._done, key, tasks))

    def _done(self, key: Hashable, tasks: list[Task], turn: "asyncio.Future[list[Task]]") -> None:
        self._running -= 1
        error = asyncio.CancelledError() if turn.cancelled() else turn.exception()
        waiting = [] if error is not None else turn.result()
        line = self._lines[key]
        line.extendleft(reversed(waiting))
        if not line:
            del self._lines[key]
        elif waiting:
            self._resting[key] = asyncio.get_running_loop().call_later(PAUSE, self._rested, key)
        else:
            self._ready.append(key)
        for task in tasks:
            if not any(task is one for one in waiting):
                self._ended(task, error)
        self._begin()

    def _rested(self, key: Hashable) -> None:
        del self._resting[key]
        self._ready.append(key)
        self._begin()
