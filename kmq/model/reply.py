"""SMTP replies: code, enhanced code (RFC 3463), text. One line as text: `250 2.0.0 Ok: queued`."""

import re
from typing import NamedTuple

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|$)")


class Reply(NamedTuple):
    """An answer of an SMTP server, ours or a peer's.

    code:     three digits; 2xx done, 4xx later, 5xx never.
    enhanced: RFC 3463 code as "5.1.1", or "" when the peer gave none.
    text:     the rest, lines of a long reply joined by a blank.
    """

    code: int
    enhanced: str
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}" if self.enhanced else f"{self.code} {self.text}"

    @property
    def done(self) -> bool:
        return self.code < 400

    @property
    def permanent(self) -> bool:
        return self.code >= 500

    @property
    def status(self) -> str:
        """The enhanced code, or the least specific one that the code allows (for DSN fields, RFC 3464 2.3.4)."""
        return self.enhanced or f"{self.code // 100 if self.code >= 200 else 4}.0.0"


def parse(line: str) -> Reply:
    """A reply from its one-line text; what has no code is taken for a temporary trouble (unknown means temporary)."""
    if len(line) < 3 or not line[:3].isdigit() or not "2" <= line[0] <= "5":
        return Reply(451, "4.5.0", f"not an SMTP reply: {line[:200]!r}")
    return said(int(line[:3]), line[3:].lstrip(" -"))


def said(code: int, text: str) -> Reply:
    """A reply from its code and what stands behind it."""
    found = _ENHANCED.match(text)
    if found and int(found[1]) == code // 100:
        return Reply(code, found[0].strip(), text[found.end() :])
    return Reply(code, "", text)
