"""What kmqd tells systemd about itself: sd_notify(3), a datagram.

What:     ready, reloading, stopping, a sentence for `systemctl status`, signs of life for WatchdogSec=, and a request
          for more time. Without systemd nothing is told.
Promise:  nobody waits for the listener; a word that does not arrive is lost. Children never see the socket's name: they
          cannot speak for us.
On crash: systemd sees the process end.
Callers:  the supervisor.
"""

import os
import socket
import time
from collections.abc import MutableMapping

_MICRO = 1_000_000


class Notify:
    """The way to systemd. watchdog: seconds between two signs of life, at most; 0 when nobody waits for them."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Takes what the service manager wrote out of the environment."""
        path = environment.pop("NOTIFY_SOCKET", "")
        meant = environment.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period = environment.pop("WATCHDOG_USEC", "")
        self.watchdog = int(period) / _MICRO if meant and period.isdecimal() else 0.0
        self._status = ""
        # "@" begins a name that has no file (unix(7), abstract); what else does not begin with "/" is none of ours.
        self._path = ("\0" + path[1:] if path[0] == "@" else path) if path[:1] in ("@", "/") else ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._path else None
        if self._socket is not None:
            self._socket.setblocking(False)

    def ready(self, status: str) -> None:
        """Mail is taken in and delivered; also after `reloading`, whatever came of it."""
        self._status = status
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` follows."""
        self._status = "reads the configuration again"
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", f"STATUS={self._status}")

    def stopping(self) -> None:
        """The end has begun."""
        self._status = "stops"
        self._tell("STOPPING=1", f"STATUS={self._status}")

    def status(self, sentence: str) -> None:
        """What is going on now, when it is not what was said last."""
        if sentence != self._status:
            self._status = sentence
            self._tell(f"STATUS={sentence}")

    def alive(self) -> None:
        """A sign of life."""
        if self.watchdog:
            self._tell("WATCHDOG=1")

    def more_time(self, seconds: float) -> None:
        """A start or a stop takes so many seconds more, from now, at most."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int(seconds * _MICRO)}")

    def _tell(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._path)
        except OSError:
            pass  # a service manager that is being replaced, or has no room: the next word may arrive
