"""What a scanner said of bodies before, so that the same mail to many is scanned once.

Law:      a verdict is that of certain bytes by certain signatures. Bodies are told apart by SHA-256 of all but the
          `Received:` field that we put on top, which differs each time and is our own. When the scanner's version is
          another one all is forgotten.
Promise:  bounded: at most MOST verdicts, each for `life` seconds; the oldest go first.
On crash: nothing is kept.
Callers:  phases.antivirus.
"""

import re
from collections.abc import Iterable
from hashlib import sha256

from kmq.phases.clamd import Verdict

#: Verdicts that are kept; one takes about 200 bytes.
MOST = 20_000

_OUR_FIELD = re.compile(rb"Received:[^\r\n]*+(?>\r\n[ \t][^\r\n]*+)*+\r\n", re.IGNORECASE)
#: Bytes in which our own field ends; one that does not is part of the body like any other.
_FIELD_LIMIT = 16 << 10


class Digest:
    """Of a body, piece by piece; the first piece is to hold our field whole."""

    __slots__ = ("_begun", "_sum")

    def __init__(self) -> None:
        self._sum = sha256()
        self._begun = False

    def feed(self, piece: bytes) -> None:
        self._sum.update(piece if self._begun else piece[_ours(piece) :])
        self._begun = True

    def key(self) -> bytes:
        return self._sum.digest()


def key_of_whole(text: bytes) -> bytes:
    """The same of a body in one piece."""
    return sha256(memoryview(text)[_ours(text) :]).digest()


def key_of(pieces: Iterable[bytes]) -> bytes:
    """What tells a body from others."""
    digest = Digest()
    for piece in pieces:
        digest.feed(piece)
    return digest.key()


def _ours(text: bytes) -> int:
    """Where the field that we put on top ends; 0 when there is none."""
    field = _OUR_FIELD.match(text, 0, _FIELD_LIMIT)
    return field.end() if field is not None else 0


class Verdicts:
    """life: seconds for which a verdict counts; 0 for none at all."""

    __slots__ = ("_known", "_version", "life")

    def __init__(self, life: float) -> None:
        self.life = life
        self._known: dict[bytes, tuple[Verdict, float]] = {}
        self._version = ""

    def signed(self, version: str) -> None:
        """The scanner's version, as it says it now."""
        if version != self._version:
            self._known.clear()
            self._version = version

    def of(self, key: bytes, now: float) -> Verdict | None:
        """What it said of these bytes, while that counts."""
        found = self._known.get(key)
        if found is None or now >= found[1]:
            return None
        return found[0]

    def keep(self, key: bytes, verdict: Verdict, version: str, now: float) -> None:
        """It was found by this version; one that is not the present one's is not kept."""
        if self.life <= 0 or version != self._version:
            return
        self._known.pop(key, None)
        self._known[key] = verdict, now + self.life
        while len(self._known) > MOST:
            del self._known[next(iter(self._known))]

    @property
    def version(self) -> str:
        return self._version

    def __len__(self) -> int:
        return len(self._known)
