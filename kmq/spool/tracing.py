"""What the journal says, message by message.

Promise:  pure; a record of a later kmq is refused (SpoolError), never half understood.
On crash: only looks.
Callers:  recovery, inspection.
"""

from dataclasses import dataclass, field

from kmq.errors import SpoolError
from kmq.spool import journal, layout, record
from kmq.spool.journal import Segment
from kmq.spool.record import Append, Archive, Keep, Mark, Move, Operation, Put, Remove


@dataclass(slots=True)
class Traced:
    """One message. lines: (seq, line) of events, moves among them; kept: the day under which it lies in sent/;
    archived: the folders in which it is archived, with the last event that its envelope has there."""

    put: Put | None = None
    lines: list[tuple[int, bytes]] = field(default_factory=list)
    removed: bool = False
    kept: str = ""
    archived: dict[str, int] = field(default_factory=dict)

    @property
    def places(self) -> list[str]:
        """Folders that it has names in beside its home."""
        return [*([layout.kept_on(self.kept)] if self.kept else ()), *self.archived]

    def take(self, operation: Operation) -> None:
        match operation:
            case Put():
                self.put = operation
            case Remove():
                self.removed = True
            case Append() | Move():
                self.lines.append((operation.seq, operation.line))
            case Keep():
                self.kept = operation.day
            case Archive():
                self.archived[operation.place] = operation.seq
            case Mark():
                self.kept = operation.day
                self.lines.append((operation.seq, operation.line))


def trace(segments: list[Segment], from_generation: int) -> tuple[dict[int, Traced], dict[bytes, int]]:
    """What the journal says from a generation on: message by message, and the tokens of its puts."""
    traced: dict[int, Traced] = {}
    tokens: dict[bytes, int] = {}
    for generation, payloads in sorted(journal.valid(segments).items()):
        if generation >= from_generation:
            for payload in payloads:
                for operation in _operations(payload):
                    traced.setdefault(operation.id, Traced()).take(operation)
                    if isinstance(operation, Put) and operation.token != record.NO_TOKEN:
                        tokens[operation.token] = operation.id
    return traced, tokens


def _operations(payload: memoryview) -> list[Operation]:
    try:
        return list(record.operations(payload))
    except ValueError as error:
        raise SpoolError(f"the journal cannot be read: {error}; install the kmq that wrote it") from error
