"""Mail that is made to hurt whoever reads it: generators, each a whole body with CRLF line ends."""

import base64
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable

HEADER = b"From: a@a.test\r\nTo: b@b.test\r\nMIME-Version: 1.0\r\n"


def message(*lines: bytes) -> bytes:
    return HEADER + b"\r\n".join((*lines, b""))


def multipart(*parts: bytes, boundary: bytes = b"b", subtype: bytes = b"mixed", top: bytes = HEADER) -> bytes:
    """parts: with their headers, without the line end that is the boundary's."""
    opened = b"".join(b"--%b\r\n%b\r\n" % (boundary, one) for one in parts)
    return top + b'Content-Type: multipart/%b; boundary="%b"\r\n\r\n%b--%b--\r\n' % (
        subtype,
        boundary,
        opened,
        boundary,
    )


def attachment(name: str, octets: bytes, type_: bytes = b"application/octet-stream") -> bytes:
    """A part in base64."""
    text = base64.encodebytes(octets).rstrip().replace(b"\n", b"\r\n")
    header = b'Content-Type: %b\r\nContent-Disposition: attachment; filename="%b"\r\n' % (type_, name.encode())
    return header + b"Content-Transfer-Encoding: base64\r\n\r\n" + text


TEXT = b"Content-Type: text/plain\r\n\r\nhello"


def zipped(*files: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, octets in files:
            archive.writestr(name, octets)
    return made.getvalue()


# --- MIME ------------------------------------------------------------------------------------------------------------


def nested_multiparts(depth: int = 5000) -> bytes:
    opening = b"".join(
        b'Content-Type: multipart/mixed; boundary="b%d"\r\n\r\n--b%d\r\n' % (level, level) for level in range(depth)
    )
    return HEADER + opening + b"\r\nhello\r\n"


def nested_messages(depth: int = 20_000) -> bytes:
    return HEADER + b"Content-Type: message/rfc822\r\n\r\n" * depth + b"hello\r\n"


def many_parts(count: int = 20_000) -> bytes:
    return multipart(*([b"Content-Type: text/plain\r\n\r\nx"] * count))


def many_headers(count: int = 100_000) -> bytes:
    return HEADER + b"".join(b"X-%d: y\r\n" % number for number in range(count)) + b"\r\nhello\r\n"


def long_header(size: int = 5_000_000) -> bytes:
    return HEADER + b"X-Long: " + b" word\r\n" * (size // 7) + b"\r\nhello\r\n"


def folds(count: int = 200_000) -> bytes:
    return HEADER + b"Subject: a\r\n" + b" \r\n" * count + b"\r\nhello\r\n"


def encoded_words(count: int = 100_000) -> bytes:
    return HEADER + b"Subject:" + b" =?utf-8?q?=C3=A9?=\r\n" * count + b"\r\nhello\r\n"


def broken_encoded_words(count: int = 100_000) -> bytes:
    return HEADER + b"Subject:" + b" =?utf-8?q?" * 80 + b"\r\n =?" * count + b"\r\n\r\nhello\r\n"


def comments(count: int = 100_000) -> bytes:
    return HEADER + b"Content-Type: text/plain" + b"(" * 900 + b"\r\n (" * (count // 4) + b"\r\n\r\nhello\r\n"


def recipients(count: int = 50_000) -> bytes:
    return (
        HEADER + b"Cc: " + b"".join(b"u%d@x.test,\r\n " % number for number in range(count)) + b"z@x.test\r\n\r\nhi\r\n"
    )


def parameters(count: int = 15_000) -> bytes:
    names = b"".join(b"; filename*%d*=%%41" % number for number in range(count))
    return multipart(b"Content-Disposition: attachment" + names.replace(b"; ", b";\r\n ") + b"\r\n\r\nx")


def semicolons(count: int = 90_000) -> bytes:
    return multipart(b"Content-Disposition: attachment" + b";\r\n " * (count // 4) + b"filename\r\n\r\nx")


def quotes(count: int = 90_000) -> bytes:
    return multipart(
        b'Content-Disposition: attachment; filename="' + b'\\"' * 300 + b'\r\n "' * (count // 4) + b"\r\n\r\nx"
    )


def boundaries_of_others(count: int = 300_000) -> bytes:
    return multipart(b"\r\n" + b"--c\r\n" * count)


def equal_signs(count: int = 3_000_000) -> bytes:
    lines = (b"=" * 76 + b"\r\n") * (count // 78)
    return multipart(b"Content-Type: application/zip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + lines)


def messages_in_base64(depth: int = 12) -> bytes:
    """Each is encoded in the one around it, so it grows by a third a time."""
    inner = message(b"Subject: innermost", b"", b"hello")
    for _ in range(depth):
        inner = message(
            b"Content-Type: message/rfc822", b"Content-Transfer-Encoding: base64", b""
        ) + base64.encodebytes(inner).replace(b"\n", b"\r\n")
    return inner


MIME: dict[str, Callable[[], bytes]] = {
    one.__name__: one
    for one in (
        *(nested_multiparts, nested_messages, many_parts, many_headers, long_header, folds, encoded_words, comments),
        *(broken_encoded_words, recipients, parameters, semicolons, quotes, boundaries_of_others, equal_signs),
        messages_in_base64,
    )
}


# --- archives ---------------------------------------------------------------------------------------------------------


def in_mail(archive: bytes, name: str = "a.zip") -> bytes:
    return multipart(TEXT, attachment(name, archive, b"application/zip"))


def like_42(levels: int = 5, wide: int = 16) -> bytes:
    """42.zip: archives of archives of .., in the innermost a file of zeros."""
    inner = zipped(("0.dll", bytes(12 << 20)))
    for level in range(levels):
        inner = zipped(*((f"{level} {number}.zip", inner) for number in range(wide)))
    return inner


def flat(size: int = 50 << 20) -> bytes:
    """One file of zeros, that says how large it is."""
    return zipped(("zeros", bytes(size)))


def overlapping(count: int = 2000, size: int = 1 << 20) -> bytes:
    """Fifield's bomb: one file, and a directory in which many are that one."""
    one = zipped(("zeros", bytes(size)))
    at = one.rindex(b"PK\5\6")
    start = struct.unpack_from("<L", one, at + 16)[0]
    entry = one[start:at]
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(entry) * count, start, 0)
    return one[:start] + entry * count + end


def lying(says: int = 100_000, size: int = 8 << 20) -> bytes:
    """An archive within, which says that it is small, and is not."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(size)) + packer.flush()
    return handmade(("inner.zip", packed, says, 8))


def many_files(count: int = 11_000) -> bytes:
    return zipped(*((f"{number}", b"") for number in range(count)))


def handmade(
    *files: tuple[str, bytes, int, int],
    own: Iterable[str] = (),
    flags: int = 0,
    hidden: int = 0,
    comment: bytes = b"",
) -> bytes:
    """(name, packed bytes, size that it says, method) each. own: names in their own headers; hidden: how many of them
    the directory leaves out.
    """
    body = b""
    directory = b""
    names = list(own) or [name for name, *_ in files]
    for place, (name, packed, size, method) in enumerate(files):
        inner = names[place].encode()
        local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, flags, method, 0, 0, 0, len(packed), size, len(inner), 0)
        entry = struct.pack(
            "<4s6H3L5H2L",
            *(b"PK\1\2", 20, 20, flags, method, 0, 0, 0, len(packed), size, len(name.encode()), 0, 0, 0, 0, 0),
            len(body),
        )
        if place >= hidden:
            directory += entry + name.encode()
        body += local + inner + packed
    count = len(files) - hidden
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), len(comment)) + comment
    return body + directory + end


ZIPS: dict[str, Callable[[], bytes]] = {one.__name__: one for one in (like_42, flat, overlapping, lying, many_files)}
