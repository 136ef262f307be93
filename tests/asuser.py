"""Being another user for a moment: a connection that the kernel says is his."""

import os
import socket
from pathlib import Path

import pytest


def connected_as(uid: int, path: Path) -> socket.socket:
    """A connection to a Unix socket, made by that user; only root can. It stays his, whoever holds it (SO_PEERCRED)."""
    if uid == os.geteuid():
        one = socket.socket(socket.AF_UNIX)
        one.connect(str(path))
        return one
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            one = socket.socket(socket.AF_UNIX)
            one.connect(str(path))
            socket.send_fds(theirs, [b"."], [one.fileno()])
        finally:
            os._exit(0)
    theirs.close()
    with ours:
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    os.waitpid(child, 0)
    assert descriptors, f"user {uid} cannot reach {path}"
    return socket.socket(fileno=descriptors[0])
