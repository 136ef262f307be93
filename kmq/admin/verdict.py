"""What `kmq check` says of one thing that it looked at.

Callers:  admin.check and its parts, cli.check.
"""

from enum import Enum
from typing import NamedTuple


class Grade(Enum):
    """How it is; the value is what people see."""

    GOOD = "OK"
    NOTE = "note"
    WRONG = "WRONG"


class Verdict(NamedTuple):
    """What was looked at and how it is; remedy: what to do when it is not good."""

    grade: Grade
    what: str
    remedy: str = ""
