"""Holds the text of a message back: its record is being synced while a connection says who it is from and for.

Promise:  no byte of the text leaves before `lift`; after `drop` none ever does, and the connection that waited is told.
On crash: the server has heard no text and no final dot, so it has nothing.
Callers:  run.walk makes and decides it; phases.connection asks it.
"""

from collections.abc import Callable


class Gate:
    """open: the text may go; shut: it never may."""

    __slots__ = ("_waiting", "open", "shut")

    def __init__(self) -> None:
        self.open = self.shut = False
        self._waiting: Callable[[], None] | None = None

    def wait(self, told: Callable[[], None]) -> None:
        """`told` is called once it is decided, at once when it is."""
        if self.open or self.shut:
            told()
        else:
            self._waiting = told

    def lift(self) -> None:
        """The record is durable."""
        self.open = True
        self._tell()

    def drop(self) -> None:
        """It is not, or another worker has the message."""
        self.shut = True
        self._tell()

    def _tell(self) -> None:
        told, self._waiting = self._waiting, None
        if told is not None:
            told()
