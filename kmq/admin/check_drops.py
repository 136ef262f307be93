"""Can files be taken out of the drop directories?

Promise:  only looks.
Callers:  admin.check.
"""

import os
import stat
from collections.abc import Iterator

from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings
from kmq.run.drop_ground import directories, unusable


def drops(settings: Settings) -> Iterator[Verdict]:
    """Each directory."""
    for name, directory in directories(settings):
        wrong = unusable(settings, name, directory)
        if wrong is not None:
            place = settings.origin(name, "directory").place
            yield Verdict(Grade.WRONG, f"{place}: [{name}] directory = {directory}: {wrong.why}", wrong.remedy)
        elif os.path.isdir(directory):
            yield Verdict(Grade.GOOD, f"[{name}] {directory}")
            yield from _doubts(name, directory)


def _doubts(name: str, directory: str) -> Iterator[Verdict]:
    if name == "replay" and os.stat(directory).st_mode & stat.S_IWGRP:
        text = f"[replay] {directory}: a group may write there, and so send mail in anybody's name"
        yield Verdict(Grade.NOTE, text, f"chmod g-w {directory}")
