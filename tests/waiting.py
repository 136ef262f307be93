"""Waiting for what must come true, never for time to pass.

A test that waits says what for; when it does not come, the test fails with those words.
"""

import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable

#: Most processes of one run of the tests (pytest -n) that find their own ports.
PROCESSES = 8


def until(true: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Returns as soon as `true()` is; AssertionError `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    pause = 0.001
    while not true():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def listening(port: int, host: str = "127.0.0.1") -> bool:
    """True when something accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


_told: deque[int] = deque(maxlen=100)


def free_port(host: str = "127.0.0.1", lowest: int = 20000, above: int = 32000) -> int:
    """A port that nobody listens on now, below the range that outgoing connections are given (32768 and up).

    Tests that run beside each other are told of different ones: each of eight processes has its part of the range.
    None of the last hundred is told again: it may not be listened on yet.
    """
    part = (above - lowest) // PROCESSES
    first = lowest + part * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % PROCESSES)
    for _ in range(1000):
        port = first + secrets.randbelow(part)
        if port in _told:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            _told.append(port)
            return port
    raise AssertionError(f"no free port between {lowest} and {above}")
