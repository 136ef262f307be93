"""8-bit mail for a 7-bit hop: whatever is read from the result is what was read from the original."""

import email
import email.policy
from email.header import decode_header
from email.message import Message

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmq.phases.mime import Unfit
from kmq.phases.quoted import Quoting, survey

E = "é".encode()


def converted(text: bytes, step: int = 0) -> bytes:
    pieces = [text[at : at + step] for at in range(0, len(text), step)] if step else [text]
    quoting = Quoting(survey(pieces))
    return b"".join(map(quoting.feed, pieces)) + quoting.end()


def leaves(message: Message) -> list[tuple[str, bytes]]:
    """What a mail reader sees: type and decoded bytes of each part, in order."""
    return [
        (part.get_content_type(), part.get_payload(decode=True)) for part in message.walk() if not part.is_multipart()
    ]


def same(before: bytes, after: bytes) -> bool:
    assert after.isascii()
    assert max(map(len, after.split(b"\r\n"))) <= 998
    one, other = email.message_from_bytes(before), email.message_from_bytes(after)
    assert leaves(one) == leaves(other)
    assert not any(part.get("content-transfer-encoding", "7bit").lower() in ("8bit", "binary") for part in other.walk())
    return True


def test_plain_text_without_mime_gets_its_header():
    before = b"Subject: hi\r\n\r\ncaf" + E + b" = good \r\n.\r\n"
    after = converted(before)
    assert after == (
        b"Subject: hi\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\n"
        b"Content-Transfer-Encoding: quoted-printable\r\n\r\ncaf=C3=A9 =3D good=20\r\n=2E\r\n"
    )
    assert same(before, after)


WIDE = b"Content-Transfer-Encoding: "
MIXED = (
    b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n\tboundary="=_a b"\r\n' + WIDE + b"8bit\r\n\r\n"
    b"preamble " + E + b"\r\n"
    b"--=_a b\r\nContent-Type: text/plain; charset=utf-8\r\n" + WIDE + b"8BIT\r\n\r\ncaf" + E + b"\r\n"
    b"--=_a b \r\nContent-Type: text/html\r\n" + WIDE + b"8bit\r\n\r\n<p>ascii only = </p>\r\n"
    b"--=_a b\r\nContent-Type: message/rfc822\r\n" + WIDE + b"8bit\r\n\r\nSubject: in it\r\n\r\n" + E + b"\r\n"
    b"--=_a b\r\nContent-Type: application/x\r\n" + WIDE + b"base64\r\n\r\nAAECAw==\r\n"
    b"--=_a b\r\nContent-Type: application/x\r\n" + WIDE + b"binary\r\n\r\n\xff\xfe\r\n\r\n"
    b"--=_a b--\r\nepilogue " + E + b"\r\n"
)  # fmt: skip


def test_each_part_is_what_it_was():
    after = converted(MIXED)
    assert same(MIXED, after)
    assert after.count(b"Content-Transfer-Encoding: 7bit\r\n") == 3  # multipart, the ASCII part, message/rfc822
    assert after.count(b"Content-Transfer-Encoding: quoted-printable\r\n") == 2
    assert after.count(b"Content-Transfer-Encoding: base64\r\n") == 2
    assert b"<p>ascii only = </p>" in after
    assert b"preamble =C3=A9\r\n" in after
    assert b"\r\n\r\n//4NCg==\r\n--=_a b--\r\n" in after


def test_the_parts_of_a_digest_are_messages():
    text = b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\n" + E + b"\r\n--b--\r\n"
    after = converted(text)
    assert same(text, after)
    assert b"\r\n--b\r\n\r\nSubject: x\r\nMIME-Version: 1.0\r\n" in after


def test_what_is_seven_bit_stays_byte_for_byte():
    text = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\na = b \r\n--b\r\nX: y\r\n--b--\r\n"
    assert converted(text) == text


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50])
def test_it_does_not_matter_how_the_bytes_are_cut(step):
    assert same(MIXED, converted(MIXED, step))
    assert converted(MIXED, step).replace(b"=\r\n", b"") == converted(MIXED).replace(b"=\r\n", b"")


def test_a_long_line_cannot_turn_into_a_boundary():
    text = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
        + E
        + b"x" * 69
        + b"--b"
        + b"y" * 72
        + b"--b--\r\n"
        b"--b--\r\n"
    )
    after = converted(text)
    assert b"=\r\n=2D-b" in after
    assert same(text, after)


def test_what_should_have_been_quoted_is():
    text = (
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
        b"=C3=A9 and " + E * 60 + b"=\r\n goes on\r\n"
    )
    after = converted(text)
    assert same(text, after)
    assert after.count(b"quoted-printable") == 1


def test_words_of_a_header_are_encoded():
    text = (
        b"Subject: Un caf"
        + E
        + b"  "
        + E
        + b" s'il vous\r\n pla\xeet\r\nX-Long: "
        + "日本語".encode() * 30
        + b"\r\n\r\nascii\r\n"
    )
    after = converted(text)
    assert after.isascii()
    assert max(map(len, after.split(b"\r\n"))) <= 80
    mail = email.message_from_bytes(after)
    assert str(email.header.make_header(decode_header(mail["X-Long"]))) == "日本語" * 30
    words = decode_header(mail["Subject"].replace("\r\n", ""))
    assert b"".join(word if isinstance(word, bytes) else word.encode() for word, _ in words) == (
        b"Un caf" + E + b"  " + E + b" s'il vous pla\xeet"
    )


SIGNED = (
    b'Content-Type: multipart/signed; boundary=b; protocol="application/pgp-signature"\r\n\r\n--b\r\n%b\r\n--b--\r\n'
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"DKIM-Signature: v=1\r\n\r\n" + E + b"\r\n", "it is signed .dkim-signature."),
        (b"ARC-Seal: i=1\r\n\r\n" + E + b"\r\n", "it is signed .arc-seal."),
        (SIGNED % (b"\r\n" + E), "a part is signed, and its text"),
        (SIGNED % (b"Subject: " + E + b"\r\n\r\n"), "a part is signed, and its header"),
        (SIGNED % (b"Content-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n" + E), "a part is signed"),
        (SIGNED % (b"Content-Type: message/rfc822\r\n\r\nX: y\r\n\r\n" + E), "a part is signed"),
        (b"Content-Transfer-Encoding: base64\r\n\r\n" + E + b"\r\n", "must not be encoded"),
        (b"Content-Transfer-Encoding: x-uu\r\n\r\n" + E + b"\r\n", "must not be encoded"),
        (b"Content-Type: message/partial; id=1\r\n\r\n" + E + b"\r\n", "must not be encoded"),
        (b"Content-Type: multipart/mixed\r\n\r\n" + E + b"\r\n", "must not be encoded"),
        (b"Content-Type: text/plain\r\nContent-Type: text/html\r\n\r\n" + E + b"\r\n", "must not be encoded"),
        (b"Content-Type: multipart/mixed; boundary=a; boundary=b\r\n\r\n" + E + b"\r\n", "must not be encoded"),
        (b"Content-Type: text/plain; name=" + E + b"\r\n\r\nx\r\n", "content-type in a header is 8-bit"),
        (b"From: <j" + E + b"@b>\r\n\r\nx\r\n", "from in a header is 8-bit"),
        (b"From: J" + E + b" <a@b\r\n\r\nx\r\n", "from in a header is 8-bit"),
        (b"Message-ID: <" + E + b"@b>\r\n\r\nx\r\n", "message-id in a header is 8-bit"),
        (
            b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(101)),
            "too deep",
        ),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 10_001, "too many parts"),
        (b"Content-Type: message/rfc822\r\n\r\n" * 10_001, "too many parts"),
        (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + E + b"\r\n", "has no parts"),
        (b"X: " + b"y" * 300_000 + b"\r\n\r\n", "too big"),
    ],
)
def test_what_must_not_be_touched_is_told(text, why):
    with pytest.raises(Unfit, match=why):
        survey([text])


def test_signed_mail_with_nothing_to_convert_is_not_changed_inside():
    inside = b"Content-Transfer-Encoding: 8bit\r\n\r\nascii = \r\n"
    text = (
        b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\n"
        + SIGNED % inside
        + b"--o\r\n\r\n"
        + E
        + b"\r\n--o--\r\n"
    )
    after = converted(text)
    assert inside in after
    assert b"=C3=A9" in after


# --- any mail --------------------------------------------------------------------------------------------------------

LINES = st.lists(
    st.one_of(
        st.sampled_from([b"", b".", b"..", b"--", b"--b", b"--b0x", b"--b0=", b"From me", b"a b \t", b"=", b"=C3=A9"]),
        st.just(b"x" * 200),
        st.text("aé- =.\t日", max_size=100).map(str.encode),
        st.binary(max_size=80).map(lambda line: line.translate(None, b"\r\n\0")),
    ),
    max_size=5,
).map(lambda lines: b"\r\n".join(lines))  # fmt: skip


def leaf(kind: bytes, encoding: bytes, lines: bytes) -> bytes:
    """A part with its header. What is encoded already is ASCII."""
    if encoding in (b"base64", b"quoted-printable"):
        lines = lines.decode("ascii", "ignore").encode()
    header = b"Content-Type: %b\r\n" % kind if kind else b""
    header += b"Content-Transfer-Encoding: %b\r\n" % encoding if encoding else b""
    return header + b"\r\n" + lines


LEAVES = st.builds(
    leaf,
    st.sampled_from([b"", b"text/plain; charset=utf-8", b"text/html", b"application/octet-stream", b'TEXT/x; a="b;"']),
    st.sampled_from([b"", b"7bit", b"8bit", b"8BIT", b"binary", b"base64", b"quoted-printable"]),
    LINES,
)


def whole(depth: int):
    """Parts within parts; boundaries that are prefixes of each other, as some programs make them."""
    if depth == 0:
        return LEAVES
    inner = whole(depth - 1)
    boundary = b"b%d" % (depth % 2) + b"x" * depth

    def multipart(kind: bytes, encoding: bytes, parts: list[bytes], around: bytes) -> bytes:
        header = b'Content-Type: multipart/%b (hm); boundary="%b"\r\n' % (kind, boundary)
        header += b"Content-Transfer-Encoding: %b\r\n" % encoding if encoding else b""
        body = b"".join(b"--%b\r\n%b\r\n" % (boundary, part) for part in parts)
        return header + b"\r\n" + around + b"\r\n" + body + b"--%b--\r\n%b" % (boundary, around)

    return st.one_of(
        inner,
        st.builds(multipart, st.sampled_from([b"mixed", b"alternative"]), st.sampled_from([b"", b"8bit", b"binary"]),
                  st.lists(inner, min_size=1, max_size=3), st.sampled_from([b"", b"text", E])),
        st.builds(b"Content-Type: message/rfc822\r\n\r\nSubject: x\r\n%b".__mod__, inner),
    )  # fmt: skip


def clean(text: bytes) -> bool:
    """The boundaries of the generator do not stand in its texts."""
    try:
        survey([text])
    except Unfit:
        return False
    return True


@settings(max_examples=300, deadline=None)
@given(whole(3).filter(clean), st.integers(0, 60))
def test_what_is_read_from_the_result_is_what_was_read_before(part, step):
    before = b"Subject: x\r\nMIME-Version: 1.0\r\n" + part + b"\r\n"
    assert same(before, converted(before, step))


SCRAPS = [
    b"Content-Type: multipart/mixed; boundary=b", b"Content-Type: message/rfc822", WIDE + b"8bit", b"--b", b"--b--",
    b"", b"text " + E, b"X: y\r\n z", b"--bb", b"Subject: x", E,
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(SCRAPS), max_size=20), st.integers(1, 30))
def test_any_order_of_lines_gives_seven_bit_text_however_it_is_cut(lines, step):
    before = b"\r\n".join(lines) + b"\r\n"
    try:
        after = converted(before)
    except Unfit:
        return
    assert after.isascii()
    assert converted(before, step).isascii()
    assert leaves(email.message_from_bytes(before)) == leaves(email.message_from_bytes(after))
