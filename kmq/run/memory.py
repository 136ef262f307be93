"""Memory that the C library keeps for later, given back to the system; and what stays for ever, left alone.

Does:     a burst of mail leaves the heap full of holes: bodies on their way to files, segments that recovery read. So
          does the reading of modules. glibc gives back whole free pages only when it is asked to.
Promise:  costs less than a millisecond (12 ms were seen once, behind a burst); nothing happens where the C library has
          no malloc_trim.
Callers:  the supervisor when all modules are read; the scheduler process, after recovery and loading and with each
          checkpoint; any thread.
"""

import ctypes
import gc
from typing import Final

_trim: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Free pages go back to the system."""
    if _trim is not None:
        _trim(0)


def settle() -> None:
    """What is there now stays: no collection looks at it again. Garbage that is young is collected first, since it
    would stay too; the lines of a million messages cost a whole collection as long as a stall."""
    gc.collect(1)
    gc.freeze()
