"""What answers at the control socket, as the scheduler process knows it: admin.control.Control is a layer above.

Callers:  run.queue; the wiring (cli.child) hands over what makes it.
"""

import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from kmq.model.frame import Answer
from kmq.run.operators import Argument, Line


class ControlServer(Protocol):
    """admin.control.Control, as the wiring hands it over."""

    async def serve(self, listener: socket.socket) -> None: ...
    async def close(self) -> None: ...


#: Makes one for whoever answers (`Operators.ask`).
Asked = Callable[[str, Mapping[str, Argument], int], Answer | AsyncIterator[Line | Answer]]
MakeControl = Callable[[Asked], ControlServer]
