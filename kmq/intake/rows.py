"""Numbers that all receiver processes count together, in memory that they share.

Shape:    a row of 32-bit numbers for each process. Each writes its own row alone and reads all, so there is no lock;
          two that let somebody in at the same moment may go one above a limit.
On crash: a dead process's row counts on until its successor, which has the same number, empties it.
Callers:  intake.tally, intake.pace: what is counted.
"""

import mmap
import os
from functools import lru_cache
from ipaddress import IPv4Address, ip_address
from zlib import crc32

PLACES = 8192  #: who falls in one place is counted together, which strikes one in a hundred when 80 are there


def mapped(fd: int, size: int) -> mmap.mmap:
    """So many bytes of shared memory, more of it if there is less. It never shrinks: others may count in what lies
    beyond, and would be ended by the kernel (SIGBUS)."""
    if os.fstat(fd).st_size < size:
        os.ftruncate(fd, size)
    return mmap.mmap(fd, size)


@lru_cache(4096)
def place_of(who: str) -> int:
    """Where a client is counted. Who has an IPv6 address has 2^64 of them: they are one client.

    Remembered: the same clients come again and again, and to read an address costs as much as a whole command.
    """
    try:
        address = ip_address(who)
    except ValueError:
        return crc32(who.encode()) % PLACES  # a user
    return crc32(address.packed if isinstance(address, IPv4Address) else address.packed[:8]) % PLACES


class Rows:
    """width: numbers in a row; row: that of this process among `rows`, from 0. A process that has no siblings needs no
    shared memory."""

    def __init__(self, width: int, memory: bytearray | mmap.mmap | None, row: int, rows: int) -> None:
        self._width = width
        self._own = row * width
        self._look(memory if memory is not None else bytearray(rows * width * 4), rows)

    def see(self, memory: mmap.mmap, rows: int) -> None:
        """There are more processes now, or fewer, in the same memory."""
        self._look(memory, rows)

    def _look(self, memory: bytearray | mmap.mmap, rows: int) -> None:
        self._counts = memoryview(memory).cast("B").cast("I")
        self._rows = range(0, rows * self._width, self._width)

    def _empty(self, begin: int, end: int) -> None:
        """What an earlier process of this number counted in a part of the own row."""
        begin, end = self._own + begin, self._own + end
        self._counts[begin:end] = memoryview(bytes(4 * (end - begin))).cast("I")
