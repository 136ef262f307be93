"""Memory that the C library keeps for later, given back to the system.

Does:     a burst of mail leaves the heap full of holes: bodies on their way to files, segments that recovery read.
          glibc gives back whole free pages only when it is asked to.
Promise:  costs less than a millisecond (12 ms were seen once, behind a burst); nothing happens where the C library has
          no malloc_trim.
Callers:  the scheduler process, after recovery and loading and with each checkpoint; any thread.
"""

import ctypes
from typing import Final

_trim: Final = getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Free pages go back to the system."""
    if _trim is not None:
        _trim(0)
