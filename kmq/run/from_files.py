"""What an assignment does not bring along, out of the message's files: the head of its envelope, a small body.

Promise:  OSError as the system says it. Never through a link; a pipe that somebody put there stops nobody. By calls of
          the system alone: Python's files make twice as many, and a queue that drains reads two files for each message.
On crash: read-only.
Callers:  run.walk.
"""

import os

#: Bytes of nearly any envelope's head, and of the longest: 100,000 recipients with all their parameters are less.
HEAD, HEAD_LIMIT = 16 << 10, 64 << 20


def first_line(path: str) -> bytes:
    """The head of an envelope."""
    most = HEAD
    while b"\n" not in (text := beginning(path, most)) and len(text) == most < HEAD_LIMIT:
        most *= 16
    return text.partition(b"\n")[0].rstrip()


def beginning(path: str, most: int) -> bytes:
    """So many bytes of a file, or all that it has."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        text = os.read(fd, most)
        while 0 < len(text) < most and (more := os.read(fd, most - len(text))):
            text += more
        return text
    finally:
        os.close(fd)
