"""`kmq restore DIR`: messages of a snapshot that are not in the spool any more come back.

Promise:  kmqd must not run; its locks are held meanwhile. What is there stays as it is. Recipients that have come to
          their end since the snapshot, as the mail log says, get nothing again; without a log it must be said that
          there is none. Exit status 0, 1 when something could not be brought back, 75 when kmqd runs.
Callers:  kmq.cli.kmq.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from kmq.admin.ends import Ends
from kmq.admin.maillog import entries
from kmq.cli.alone import SYNCFS_NOTE, alone_in, as_owner
from kmq.cli.call import DONE, REFUSED, USAGE, Call
from kmq.cli.report import lines_since
from kmq.errors import KmqError, SpoolError
from kmq.spool import restoring, snapshot
from kmq.spool.look import Damaged, walk
from kmq.spool.restoring import BACK, DAMAGED, Restored
from kmq.view.words import counted, harmless

#: Seconds by which lines may be older than the snapshot and still be about what came after it.
_MARGIN = 3600.0


def run(call: Call) -> int:
    """The verb."""
    arguments, section = call.arguments, call.settings.kmq
    folder = Path(arguments.folder)
    if arguments.no_log and arguments.log:
        call.warn("--log and --no-log: one of them")
        return USAGE
    since = snapshot.created(folder) - _MARGIN
    ids = {one.id if isinstance(one, Damaged) else one.head.id for one in walk(folder)}
    ends = Ends(() if arguments.no_log else entries(_lines(call, since)), ids)
    if arguments.what_if:
        return _told(call, restoring.restore(folder, section.spool, ends.since, really=False))
    with alone_in(section, "Stop kmqd first"):
        with as_owner(section.spool):
            size = call.settings.queue.queue_database_logging_file_size
            restoring.make_ready(section.spool, size, str(section.run_directory / SYNCFS_NOTE))
        try:
            return _told(call, restoring.restore(folder, section.spool, ends.since))
        except OSError as error:
            raise SpoolError(f"{error.filename or section.spool}: {error.strerror}; ask again to go on") from None


def _lines(call: Call, since: float) -> Iterator[str]:
    try:
        yield from lines_since(call, since)
    except KmqError as error:
        hint = "--log says where it is; --no-log: there is none, and mail that left since then goes out again"
        raise type(error)(f"the mail log is needed to know what was delivered since: {error}. {hint}") from None


def _told(call: Call, found: Iterator[Restored]) -> int:
    counts: Counter[str] = Counter()
    for one in found:
        counts[one.outcome] += 1
        if call.json:
            call.tell_objects(
                [{"ID": one.id, "Home": one.home, "Result": one.outcome, "Open": one.open, "Why": one.why or None}]
            )
        elif one.outcome == DAMAGED:
            call.warn(harmless(f"{one.id} is not brought back: {one.why}"))
        elif one.outcome == BACK:
            call.tell([f"{one.id}  {counted(one.open, 'recipient')}"])
    if not call.json:
        would = "would be brought back" if call.arguments.what_if else "brought back"
        call.tell(
            [
                f"{counted(counts[BACK], 'message')} {would}; {counts[restoring.THERE]:,} still there,"
                f" {counts[restoring.DONE]:,} done since"
            ]
        )
    return REFUSED if counts[DAMAGED] else DONE
