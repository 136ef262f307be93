"""How many sessions there are: in all, and from each client, over all receiver processes together.

Shape:    memory that the receivers share: a row of 32-bit counters for each process, the first for all sessions, the
          others for those from clients whose address falls there. Each process writes its own row alone and reads all,
          so there is no lock; two that let somebody in at the same moment may go one above a limit.
On crash: a dead process's row counts on until its successor, which has the same number, empties it.
Callers:  `smtpd`, once per connection; a process that has no siblings needs no shared memory.
"""

import mmap
import os
from ipaddress import IPv4Address, ip_address
from zlib import crc32

_PLACES = 8192  #: clients that fall in one place are counted together, which strikes one in a hundred when 80 are there
_ROW = 1 + _PLACES


def shared(fd: int, rows: int) -> mmap.mmap:
    """The memory of `rows` processes behind a descriptor that all of them were handed (os.memfd_create)."""
    return mapped(fd, rows * _ROW * 4)


def mapped(fd: int, size: int) -> mmap.mmap:
    """So many bytes of shared memory, more of it if there is less. It never shrinks: others may count in what lies
    beyond, and would be ended by the kernel (SIGBUS)."""
    if os.fstat(fd).st_size < size:
        os.ftruncate(fd, size)
    return mmap.mmap(fd, size)


class Tally:
    """The limits on sessions. row: the number of this process among `rows`, from 0."""

    def __init__(
        self, total: int, per_client: int, memory: bytearray | mmap.mmap | None = None, row: int = 0, rows: int = 1
    ) -> None:
        self.total = total
        self.per_client = per_client
        self._counts = memoryview(memory or bytearray(rows * _ROW * 4)).cast("B").cast("I")
        self._rows = range(0, rows * _ROW, _ROW)
        self._own = row * _ROW
        for at in range(self._own, self._own + _ROW):
            self._counts[at] = 0

    def see(self, memory: mmap.mmap, rows: int) -> None:
        """There are more processes now, or fewer, in the same memory."""
        self._counts = memoryview(memory).cast("B").cast("I")
        self._rows = range(0, rows * _ROW, _ROW)

    def enter(self, ip: str) -> bool:
        """One more session of a client, if that many may be; then `leave` is due."""
        place = _place(ip)
        counts, rows = self._counts, self._rows
        if sum([counts[row] for row in rows]) >= self.total:
            return False
        if sum([counts[row + place] for row in rows]) >= self.per_client:
            return False
        counts[self._own] += 1
        counts[self._own + place] += 1
        return True

    def leave(self, ip: str) -> None:
        """A session of the client that had entered is over."""
        self._counts[self._own] -= 1
        self._counts[self._own + _place(ip)] -= 1

    @property
    def sessions(self) -> int:
        """Of all processes."""
        return sum(self._counts[row] for row in self._rows)


def _place(ip: str) -> int:
    """Where a client is counted. Who has an IPv6 address has 2^64 of them: they are one client."""
    try:
        address = ip_address(ip)
    except ValueError:
        return 1 + crc32(ip.encode()) % _PLACES  # a user of this machine
    return 1 + crc32(address.packed if isinstance(address, IPv4Address) else address.packed[:8]) % _PLACES
