"""Is this machine a place where a mail server does well? What `kmq check` looks at, and the machine around it.

Promise:  looks only, but for one file without a name in the spool (to see how fast the disk is) and connections to the
          servers of the configuration, which are ended after their greeting. What this user may not see is said so.
          All of it is bounded in time; a part that fails by our own mistake is one line, and the others go on.
On crash: nothing is left.
Callers:  `kmq doctor`.
"""

from collections.abc import Callable, Iterator

from kmq.admin import check, check_content, doctor_disk, doctor_machine, doctor_names, doctor_reach, doctor_ways
from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings

#: A part of the examination.
Part = Callable[[Settings], Iterator[Verdict]]


def examine(settings: Settings, to: str = "") -> Iterator[Verdict]:
    """Everything. to: a domain elsewhere whose mail server is tried on port 25, "" for none."""
    parts: tuple[Part, ...] = (
        check.examine,
        doctor_disk.examine,
        doctor_machine.examine,
        check_content.examiners,
        doctor_ways.gateways,
        doctor_names.examine,
        doctor_reach.certificates,
        lambda settings: doctor_reach.servers(settings, to),
        doctor_machine.kmqd,
    )
    for part in parts:
        try:
            yield from part(settings)
        except Exception as error:
            yield Verdict(Grade.NOTE, f"a part of the examination failed: {type(error).__name__}: {error}", "report it")
