"""What `kmq check` says of the groups that may ask kmqd.

Promise:  looks only. What is in order is not told.
Callers:  admin.check.
"""

from collections.abc import Iterator

from kmq.admin.rights import group_number
from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings


def groups(settings: Settings) -> Iterator[Verdict]:
    """Whether they are there: one that is not has no members, so that nobody may what was meant for them."""
    for option in ("operators_group", "viewers_group"):
        name = getattr(settings.kmq, option)
        if name and group_number(name) is None:
            what = f"[kmq] {option}: there is no group {name} on this machine"
            yield Verdict(Grade.WRONG, what, f"groupadd {name}, or name another; then start kmqd anew")
