"""How long one message takes through an MTA that has nothing else to do: from the end of DATA to the next hop.

The next hop is ours here, in the same process as the sender, so that one clock tells both times.
"""

import asyncio
from dataclasses import dataclass

from bench.probe import REFUSED, body, send
from bench.sink import Sink

PATIENCE = 30.0
PAUSE = 0.25
#: The first messages, which open connections and begin processes, and are not counted.
WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Idle:
    """Milliseconds from the dot to the next hop, each message, while nothing else was to be done."""

    mta: str
    waits: list[float]


async def measure(port: int, sink_port: int, messages: int, pause: float = PAUSE) -> list[float]:
    """Seconds from the dot to the sink, for each of `messages` sent one after the other."""
    sink = Sink()
    server = await asyncio.start_server(sink.serve, "127.0.0.1", sink_port)
    found = []
    try:
        for number in range(messages):
            token = f"idle-{number}"
            arrival = sink.expect(token)
            dot, answered = await asyncio.wait_for(send(port, body(token)), PATIENCE)
            if answered == REFUSED:
                raise RuntimeError("the MTA refused a message while it was idle")
            found.append(await asyncio.wait_for(arrival, PATIENCE) - dot)
            await asyncio.sleep(pause)
    finally:
        server.close()
        await sink.close()
    return found
