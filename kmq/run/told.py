"""Who waits for a record that an operator asked for.

Promise:  `durable` is done when the record is, in the loop.
On crash: nothing is kept: what was not answered may have happened or not.
Callers:  run.queue (a ticket of the storage), run.operators and its parts, run.deaths.
"""

import asyncio


class Told:
    """The ticket of a record that somebody waits for. pending: what was asked for comes about when work has ended."""

    __slots__ = ("durable", "pending")

    def __init__(self, pending: bool = False) -> None:
        self.pending = pending
        self.durable = asyncio.get_running_loop().create_future()

    def tell(self) -> None:
        if not self.durable.done():
            self.durable.set_result(None)
