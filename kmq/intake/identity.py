"""By what people know a message: its Message-ID and its subject, out of a header that is at hand anyway.

Promise:  pure, two searches and no copy of the header. What is found is foreign text: one line, cut where it is long.
Callers:  intake.content, intake.arrival, run.drop_file.
"""

#: Bytes of a value that are worth keeping.
_LONGEST = 500


def identify(header: bytes, lower: bytes) -> tuple[str, str]:
    """(Message-ID, subject) as they stand in the header, "" for one that is not there.

    header: begins with the CRLF before its first line; lower: the same in lower case. A folded value is unfolded
    (RFC 5322 2.2.3); encoded words stay encoded.
    """
    return _value(header, lower.find(b"\r\nmessage-id:"), 13), _value(header, lower.find(b"\r\nsubject:"), 10)


def _value(header: bytes, at: int, name: int) -> str:
    if at < 0:
        return ""
    begin = at + name
    end = header.find(b"\r\n", begin)
    while end >= 0 and header[end + 2 : end + 3] in (b" ", b"\t") and end - begin < _LONGEST:
        end = header.find(b"\r\n", end + 2)
    value = header[begin : end if end >= 0 else len(header)][: _LONGEST + 1]
    return value.replace(b"\r\n", b"").strip().decode("utf-8", "backslashreplace")[:_LONGEST]
