"""`kmq export`: copies of held messages, as files that the Replay directory takes.

Promise:  kmqd says first which of them are held, and writes down who wanted a copy; then the files are made. A message
          is copied for those recipients that still wait, in the queues that were named. The queue stays as it is.
On crash: a file is there whole or not at all; the log may tell of a copy that was not made.
Callers:  kmq.cli.act.
"""

from collections.abc import Mapping

from kmq.admin.choice import Choice, Target
from kmq.admin.exporting import Folder
from kmq.admin.listing import next_hop
from kmq.admin.verbs import Argument, split
from kmq.cli.act_bulk import Bulk
from kmq.cli.call import DONE, Call
from kmq.model import queue_id
from kmq.model.outcome import GONE, RESULTS, SKIPPED
from kmq.spool.look import Damaged, find
from kmq.view.words import counted

_DONE = RESULTS["export"]
Line = dict[str, object]


def run(call: Call, chosen: Choice, named: Mapping[str, Argument]) -> int:
    """The verb."""
    folder = Folder(call.arguments.to)
    try:
        export = Export(call, folder, chosen)
        status = Bulk(call, "export", named, export.finish).run(chosen)
        folder.sync()
    finally:
        folder.close()
    if status == DONE and export.written and not call.json:
        stay = "original stays" if export.written == 1 else "originals stay"
        call.warn(f"{counted(export.written, 'message')} copied to {folder.path}; the {stay} in the queue")
    return status


class Export:
    """The files of one command. written: how many were made."""

    def __init__(self, call: Call, folder: Folder, chosen: Choice) -> None:
        self._spool = call.settings.kmq.spool
        self._folder = folder
        self._owner = self._spool.stat()
        self._wanted: dict[str, set[str]] = {}
        for target in chosen.targets:
            self._wanted.setdefault(target.id, set()).add(target.hop)
        self._made: set[str] = set()
        self.written = 0

    def finish(self, lines: list[Line]) -> None:
        """Makes the files of those that kmqd says may be copied; what cannot be is told in its line."""
        for line in lines:
            if line.get("Result") != _DONE:
                continue
            problem = self._make(Target(*reversed(split(str(line["ID"])))))
            if problem:
                line["Result"], line["Why"] = problem

    def _make(self, target: Target) -> tuple[str, str] | None:
        """The file of a message, which is one for all of its queues; what to say instead of it."""
        if target.id in self._made:
            return None
        found = find(self._spool, queue_id.parse(target.id))
        if found is None:
            return GONE, ""
        if isinstance(found, Damaged):
            return SKIPPED, f"it is damaged: {found.reason}"
        wanted = self._wanted.get(target.id, set())
        rcpt = [index for index in found.state.open if "" in wanted or str(next_hop(found.state.hop[index])) in wanted]
        if not rcpt:
            return GONE, "nobody of it waits there any more"
        try:
            self._folder.write(found, rcpt, self._owner)
        except FileExistsError:
            return SKIPPED, f"{target.id}.eml is there already"
        except OSError as error:
            return SKIPPED, f"its file cannot be made: {error.strerror}"
        self._made.add(target.id)
        self.written += 1
        return None
