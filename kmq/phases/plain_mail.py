"""Mail without any attachment, known by a look at its header: most of it, and nobody need examine it.

Law:      it is such mail when its header ends with an empty line, names no Content-Disposition, and says of the text,
          if anything, once and in words that every reader takes alike, that it is text/plain or text/html without a
          name, in one of the encodings of RFC 2045. Then the text is the one part, and it is what a person reads.
          Whatever else a header says, or how it says it, is for the examiner.
Promise:  true is never wrong, as the examiner sees it; false may be. Bounded by the header; no field is decoded.
Callers:  phases.content_attachments.
"""

import re

from kmq.model import fields
from kmq.model.fields import CRLF

_CONTENT = re.compile(
    rb"^content-([a-z-]++)[ \t]*+:([^\r\n]*+(?>\r\n[ \t][^\r\n]*+)*+)\r$", re.IGNORECASE | re.MULTILINE
)
_VALUE = rb'(?:[!#-\'*+\-.0-9A-Z^-~/:]++|"[!#-\[\]-~ ]*+")'
_TEXT = re.compile(
    rb"\s*+text/(?:plain|html)\s*+(?>;\s*+(?:charset|format|delsp|reply-type)=" + _VALUE + rb"\s*+)*+;?\s*+",
    re.IGNORECASE,
).fullmatch
_ENCODING = re.compile(rb"\s*+(?:7bit|8bit|binary|quoted-printable|base64)\s*+", re.IGNORECASE).fullmatch


def has_no_attachment(text: bytes) -> bool:
    """Of a whole message, as its body lies here."""
    end = fields.end(text[: fields.LIMIT])
    if text[end : end + 2] != CRLF:
        return False
    said: dict[bytes, bytes] = {}
    for name, value in _CONTENT.findall(text[:end]):
        if name.lower() in said:
            return False
        said[name.lower()] = value
    kind, encoding = said.get(b"type"), said.get(b"transfer-encoding")
    return (
        b"disposition" not in said
        and (kind is None or _TEXT(kind) is not None)
        and (encoding is None or _ENCODING(encoding) is not None)
    )
