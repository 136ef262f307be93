"""What the benchmark asks of a mail transfer agent."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol, TypeVar


class Span(NamedTuple):
    """From when until when, by CLOCK_MONOTONIC."""

    begin: float
    end: float


class Ways(NamedTuple):
    """Ports on 127.0.0.1: the MTA's own, its next hop's, and of the next hop of probes."""

    port: int
    hop: int
    probes: int


class Mta(Protocol):
    """One MTA with a folder, a port on 127.0.0.1 and one next hop."""

    name: str
    port: int

    @property
    def pid(self) -> int:
        """The root of its tree of processes."""

    def expect(self, connections: int) -> None:
        """Before `start`: one client will have so many open at once."""

    def start(self) -> None:
        """Returns when the port listens."""

    def stop(self) -> None:
        """Ends every process of it, also when it never began."""

    def waiting(self) -> int:
        """Messages in its queue."""

    def settle(self) -> None:
        """Returns when it has done what it still owes for mail that is gone: its processor time counts too."""

    def checkpoints(self) -> list[Span]:
        """When it was busy with a checkpoint since it started."""

    def listing(self) -> list[str]:
        """The command that lists the queue."""

    def flush(self) -> list[str]:
        """The command that has everything tried now."""

    def environment(self) -> dict[str, str]:
        """For the commands."""


class Runs(Protocol):
    """What has processes."""

    def stop(self) -> None:
        """Ends them all, also when it never began."""


R = TypeVar("R", bound=Runs)


@contextmanager
def stopping(one: R) -> Iterator[R]:
    """Stops it when the block is left, however that is."""
    try:
        yield one
    finally:
        one.stop()
