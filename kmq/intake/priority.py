"""How urgent a message is by its header: the fields that mail programs write for it.

Law:      X-Priority, else Priority (RFC 2156), else Importance (RFC 2156); of each the first one that is there and says
          something that is known. A field that says `normal` decides, too.
Promise:  no code runs per line; what is not known says nothing.
Callers:  intake.content.
"""

import re

from kmq.config.sections import QueueSection
from kmq.model.priority import HIGH, LOW, NORMAL, Priority

#: Instead of a size: the header does not say how urgent a message is.
NOT_ASKED = -1

#: Fields in order, and what their first word means.
FIELDS: dict[bytes, dict[bytes, Priority]] = {
    b"x-priority": {b"1": HIGH, b"2": HIGH, b"3": NORMAL, b"4": LOW, b"5": LOW},
    b"priority": {b"urgent": HIGH, b"normal": NORMAL, b"non-urgent": LOW},
    b"importance": {b"high": HIGH, b"normal": NORMAL, b"low": LOW},
}

_written = re.compile(rb"\r\n(x-priority|priority|importance)[ \t]*:[ \t]*([a-z0-9-]+)").findall


def of_header(header: bytes) -> Priority:
    """header: in lower case, each field with the CRLF before it."""
    if b"priority" not in header and b"importance" not in header:
        return NORMAL
    found: dict[bytes, Priority] = {}
    for field, word in _written(header):
        meant = FIELDS[field].get(word)
        if meant is not None:
            found.setdefault(field, meant)
    return next((found[field] for field in FIELDS if field in found), NORMAL)


def urgent_size(queue: QueueSection) -> int:
    """Up to which size mail may be of high priority; NOT_ASKED without priority queuing."""
    return queue.high_priority_size if queue.priority_queuing else NOT_ASKED
