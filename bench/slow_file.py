"""A file whose syncs take their time: `python -m bench.slow_file FILE BACKING SECONDS`, as root.

What is read of and written to FILE goes to and from BACKING at once; a sync is answered after SECONDS, and the file
does nothing else meanwhile, as a disk does whose head must come round. On a loop device this is a disk with slow syncs,
on any kernel that has FUSE: the device's flush is the file's sync, and file systems above send those as they would to
any disk. The kernel's protocol (linux/fuse.h) is spoken here directly, as far as one file needs it.

On crash: whoever uses FILE gets errors until it is unmounted. Ends when it is.
"""

import contextlib
import ctypes
import errno
import os
import stat
import struct
import sys
import time
from collections.abc import Callable

#: Headers of what the kernel asks and of what it is answered, and the requests that are understood.
ASKED = struct.Struct("<IIQQIIIHH")  # length, request, number, node, user, group, process, extension, -
ANSWERED = struct.Struct("<IiQ")  # length, negative errno, number
ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
FORGET, GETATTR, OPEN, READ, WRITE, RELEASE, FSYNC, FLUSH, INIT = 2, 3, 14, 15, 16, 18, 20, 25, 26

#: Version 7.31 of the protocol, which every kernel since 5.4 speaks; a megabyte at once.
MAJOR, MINOR, LARGEST = 7, 31, 1 << 20
BIG_WRITES, MAX_PAGES = 1 << 5, 1 << 22
#: Each read and write comes here: no copy of the file in the page cache, the device above has its own.
DIRECT_IO = 1


class SlowFile:
    """Answers for one file. seconds: that a sync takes."""

    def __init__(self, backing: str, seconds: float) -> None:
        self._fd = os.open(backing, os.O_RDWR | os.O_CLOEXEC)
        self._seconds = seconds
        self._answers: dict[int, Callable[[memoryview], bytes]] = {
            INIT: self._agree,
            GETATTR: self._attributes,
            OPEN: lambda asked: struct.pack("<QII", 0, DIRECT_IO, 0),
            READ: self._read,
            WRITE: self._write,
            FSYNC: self._sync,
            FLUSH: lambda asked: b"",
            RELEASE: lambda asked: b"",
        }

    def serve(self, kernel: int) -> None:
        """Until the file is unmounted."""
        room = memoryview(bytearray(LARGEST + (1 << 16)))
        while True:
            try:
                length = os.readv(kernel, [room])
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in (errno.EINTR, errno.ENOENT):  # the request was withdrawn
                    continue
                raise
            _, request, number, *_ = ASKED.unpack_from(room)
            if request == FORGET:
                continue  # the one request that wants no answer
            failure, answer = self._answer(request, room[ASKED.size : length])
            os.writev(kernel, [ANSWERED.pack(ANSWERED.size + len(answer), failure, number), answer])

    def _answer(self, request: int, asked: memoryview) -> tuple[int, bytes]:
        if request not in self._answers:
            return -errno.ENOSYS, b""
        try:
            return 0, self._answers[request](asked)
        except OSError as error:
            return -(error.errno or errno.EIO), b""

    def _agree(self, asked: memoryview) -> bytes:
        flags = BIG_WRITES | MAX_PAGES
        head = struct.pack("<IIIIHHIIHH", MAJOR, MINOR, LARGEST, flags, 64, 48, LARGEST, 1, LARGEST >> 12, 0)
        return head.ljust(64, b"\0")

    def _attributes(self, asked: memoryview) -> bytes:
        size = os.fstat(self._fd).st_size
        mode = stat.S_IFREG | 0o600
        return struct.pack("<QII", 3600, 0, 0) + ATTRIBUTES.pack(
            *(1, size, size >> 9, 0, 0, 0, 0, 0, 0), *(mode, 1, 0, 0, 0, 4096, 0)
        )

    def _read(self, asked: memoryview) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", asked)
        return os.pread(self._fd, size, offset)

    def _write(self, asked: memoryview) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", asked)
        return struct.pack("<II", os.pwrite(self._fd, asked[40 : 40 + size], offset), 0)

    def _sync(self, asked: memoryview) -> bytes:
        time.sleep(self._seconds)
        return b""


def mount(at: str) -> int:
    """The kernel's end of a file that is mounted over the file `at`."""
    kernel = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={kernel},rootmode=100600,user_id=0,group_id=0,max_read={LARGEST}"
    if libc.mount(b"kmq-bench", at.encode(), b"fuse", 0, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), at)
    return kernel


def main() -> None:
    at, backing, seconds = sys.argv[1:]
    file = SlowFile(backing, float(seconds))
    kernel = mount(at)
    with contextlib.suppress(PermissionError):  # a container may forbid it
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # a disk waits for no processor
    print("mounted", flush=True)
    file.serve(kernel)


if __name__ == "__main__":
    main()
