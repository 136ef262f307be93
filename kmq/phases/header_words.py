"""What a header field says to a person: encoded words (RFC 2047) and 8-bit text as characters.

Promise:  linear in the bytes, whatever they are, and at most `LIMIT` of them are read; what cannot be decoded stays as
          it is written, or becomes the character that stands for that (U+FFFD). Blanks between neighbouring encoded
          words go (6.2), a character that was cut in two by them is whole again; words in quoted strings, where none
          may stand, are decoded too: readers of mail do it. Nothing is raised.
Callers:  phases.file_names, phases.part_reading; server rules.
"""

import codecs
import re
from binascii import Error, a2b_base64, a2b_qp
from collections.abc import Iterator
from functools import lru_cache

#: Bytes of a value that are looked at.
LIMIT = 20_000

_WORD = re.compile(rb"=\?([!-)+,\-.0-9:;<A-Z\[\]^-~]{1,40})(?:\*[A-Za-z0-9-]{1,20})?\?([bBqQ])\?([^?\r\n]{0,4000})\?=")
_BLANKS = b" \t\r\n"

#: Codecs of Python's that are none of mail, or take their time.
_NO_CHARSETS = frozenset(("punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"))


#: What mail is written in, beside UTF-8 and Latin-1; each is a file that Python reads when it is first met.
_CHARSETS = """
iso-8859-1 iso-8859-2 iso-8859-3 iso-8859-4 iso-8859-5 iso-8859-6 iso-8859-7 iso-8859-8 iso-8859-9 iso-8859-10
iso-8859-11 iso-8859-13 iso-8859-14 iso-8859-15 iso-8859-16 windows-1250 windows-1251 windows-1252 windows-1253
windows-1254 windows-1255 windows-1256 windows-1257 windows-1258 koi8-r koi8-u cp437 cp850 cp852 cp866 cp874 tis-620
macintosh us-ascii utf-8 utf-7 utf-16 gb2312 gbk gb18030 hz-gb-2312 big5 big5-hkscs euc-kr ks_c_5601-1987 cp949
iso-2022-kr euc-jp shift_jis cp932 iso-2022-jp iso-2022-jp-1 iso-2022-jp-2 iso-2022-jp-3
"""


def decoded(value: bytes) -> str:
    """A value as it stands behind the colon, folds and all -> the text of one line."""
    value = value[:LIMIT]
    if b"=?" not in value:
        return _one_line(eight_bit(value))
    return _one_line("".join(text_in(charset, octets) for charset, octets in _runs(value)))


def _runs(value: bytes) -> Iterator[tuple[str, bytes]]:
    """(charset, bytes): neighbouring words of one charset together, what is no word with charset ""."""
    at = 0
    charset, kept = "", b""
    for word in _WORD.finditer(value):
        between = value[at : word.start()]
        named = word[1].decode("ascii").lower()
        octets = _octets(word[2], word[3])
        at = word.end()
        if charset and not between.strip(_BLANKS):
            if named == charset:
                kept += octets
                continue
            between = b""
        yield charset, kept
        yield "", between
        charset, kept = named, octets
    yield charset, kept
    yield "", value[at:]


def _octets(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"qQ":
        return a2b_qp(text, header=True)
    try:
        return a2b_base64(text + b"=" * (-len(text) % 4))
    except Error:
        return text


def text_in(charset: str, octets: bytes) -> str:
    """Bytes in a charset as characters; where it is unknown, "" or US-ASCII, as `eight_bit`."""
    codec = _codec(charset)
    try:
        return octets.decode(codec, "replace") if codec else eight_bit(octets)
    except ValueError:  # a codec that does not know how to replace
        return eight_bit(octets)


def eight_bit(octets: bytes) -> str:
    """UTF-8 where it is such, else Windows's Latin-1: what is sent without a charset is one of these."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")


def know_charsets() -> None:
    """Reads the tables of what mail is written in, for a process that may read no files from now on."""
    for one in _CHARSETS.split():
        _codec(one)


@lru_cache(maxsize=300)
def _codec(charset: str) -> str:
    """The name that Python knows a charset by; "" for none, and for what is none."""
    try:
        found = codecs.lookup(charset) if charset.isascii() and "\0" not in charset else None
    except (LookupError, ValueError, OSError, ImportError):  # its table cannot be read any more: see know_charsets
        return ""
    if found is None or not getattr(found, "_is_text_encoding", True):
        return ""
    return "" if found.name in ("ascii", "") or found.name.replace("-", "_") in _NO_CHARSETS else found.name


def _one_line(text: str) -> str:
    return text.replace("\r\n", "").replace("\r", " ").replace("\n", " ").strip(" \t")
