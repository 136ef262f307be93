"""A next hop that asks us to go slower: how it is left alone for a while, and how it wins its width back.

Law:      421 (RFC 5321 3.8: the service closes its channel) is such a word at once. 4.7.x (RFC 3463: policy) is one
          when several messages in a row heard it, since it may be about one recipient; greylisting is never one, for it
          asks each message to come again later by itself.
          Then the width is halved and nothing is begun for a while, which doubles each time that it happens again. A
          width grows by one when as many messages were taken as it is wide; that also halves the next pause.
Promise:  pure; time is an argument.
On crash: forgotten; the hop says it again.
Callers:  kmq/run/throttle.
"""

from typing import Final

#: The pause after the first such word, and the longest (seconds).
PAUSE, LONGEST = 10.0, 600.0

#: How many messages in a row must have heard 4.7.x.
IN_A_ROW = 3

_CLOSES: Final = "421"
_POLICY: Final = " 4.7."
_GREYLISTING: Final = ("greylist", "graylist", "grey-list", "gray-list", "grey list", "gray list")


def asks(reply: str) -> bool:
    """Whether a temporary refusal may be a word about us, and not about the message."""
    if reply.startswith(_CLOSES):
        return True
    return reply[3:8] == _POLICY and not any(word in reply.lower() for word in _GREYLISTING)


class Slowdown:
    """Of one queue. until: monotonic time before which nothing is begun; reply: what was said, "" as long as it was
    not said often enough to count."""

    __slots__ = ("_calm", "_in_a_row", "level", "reply", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self.reply = ""
        self.level = 0
        self._calm = 0
        self._in_a_row = 0

    def refused(self, reply: str, now: float) -> bool:
        """A message heard this; whether it goes slower from now on. What was on its way meanwhile says nothing new."""
        self._calm = 0
        if now < self.until:
            return False
        self._in_a_row += 1
        if self._in_a_row < IN_A_ROW and not reply.startswith(_CLOSES):
            return False
        self._in_a_row = 0
        self.reply = reply
        self.until = now + min(LONGEST, PAUSE * 2**self.level)
        self.level += self.until < now + LONGEST
        return True

    def taken(self, width: int) -> bool:
        """The hop dealt with a message without such a word; whether the width may grow by one."""
        self._in_a_row = 0
        self._calm += 1
        if self._calm < width:
            return False
        self._calm = 0
        self.level = max(0, self.level - 1)
        return True
