"""Foreign text on its way into a line of the log, and back.

Promise:  no value can forge a line, an escape sequence of a terminal, or another key. What is not printable is \\xNN; a
          value with blanks, quotes or nothing in it stands in quotes. Different values look different, as far as they
          are shown: a value is cut after 400 characters.
Callers:  kmq.log; kmq.admin reads lines back.
"""

import os
import re
import traceback

_LONGEST = 400  #: characters of one foreign value


def shown(value: str | int | float) -> str:
    """A value as it stands behind `key=`: bare when that is safe, else in quotes with everything odd escaped."""
    text = value if type(value) is str else f"{value:.3f}" if type(value) is float else str(value)
    if text.isprintable() and '"' not in text and "\\" not in text and len(text) <= _LONGEST:
        return text if text and " " not in text else f'"{text}"'
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return f'"{escaped(text, _QUOTED)}"'


_QUOTED = '"\\'


def escaped(text: str, special: str = "") -> str:
    """The text on one line; the signs in `special` get a backslash too."""
    if text.isprintable() and not any(sign in text for sign in special):
        return text
    return "".join(_sign(one, special) for one in text)


def _sign(one: str, special: str) -> str:
    if one in special:
        return "\\" + one
    if one.isprintable():
        return one
    code = ord(one)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that was no UTF-8 (surrogateescape)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_ESCAPE = re.compile(r'\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U(0010[0-9a-f]{4}|000[0-9a-f]{5})|(["\\]))')


def unshown(text: str) -> str:
    """The value of what `shown` made; what it never makes is returned as it is."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    return _ESCAPE.sub(lambda one: one[4] or chr(int(one[1] or one[2] or one[3], 16)), text[1:-1])


def traced(error: BaseException) -> str:
    """An exception on one line: what it says, then where it came from, innermost first."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    places = " < ".join(f"{os.path.basename(place.filename)}:{place.lineno} {place.name}" for place in frames)
    return f"{type(error).__name__}: {str(error)[:200]} ({places})"
