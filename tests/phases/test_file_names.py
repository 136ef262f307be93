"""The names of attached files, as well as any reader of mail may understand them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmq.phases.file_names import NAMES, names, plain
from kmq.phases.header_words import decoded


@pytest.mark.parametrize(
    ("disposition", "content_type", "found"),
    [
        (b'attachment; filename="a.exe"', b"", ["a.exe"]),
        (b"attachment; filename=a.exe", b'text/plain; name="b.txt"', ["a.exe", "b.txt"]),
        (b"attachment; filename*=UTF-8''caf%C3%A9.exe; filename=cafe.txt", b"", ["café.exe", "cafe.txt"]),
        (b"attachment; filename*=iso-8859-1'en'caf%E9.exe", b"", ["café.exe"]),
        (b"attachment; filename*1=.e; filename*0=a; filename*2=xe", b"", ["a.exe"]),
        (b"attachment; filename*0*=UTF-8''caf%C3; filename*1*=%A9; filename*2=%41.exe", b"", ["café%41.exe"]),
        (b'attachment; filename="=?utf-8?B?Y2Fmw6kuZXhl?="', b"", ["café.exe"]),
        (b"attachment; filename==?iso-8859-1?q?caf=E9=2Eexe?=", b"", ["café.exe"]),
        (b"attachment; filename=my holiday.exe; size=3", b"", ["my holiday.exe"]),
        (b'attachment; filename="never closed.exe', b"", ["never closed.exe"]),
        (b'attachment; filename="a\\"b.exe"', b"", ['a"b.exe', 'a\\"b.exe']),
        (b'attachment; filename="C:\\temp\\a.exe"', b"", ["C:tempa.exe", "C:\\temp\\a.exe"]),
        (b"attachment;filename=a.txt;filename=b.exe", b"", ["a.txt", "b.exe"]),
        (b'attachment; x="; filename=no.exe"; FileName = "A.EXE"', b"", ["A.EXE"]),
        ("attachment; filename=café.exe".encode(), b"", ["café.exe"]),
        (b"attachment; filename=caf\xe9.exe", b"", ["café.exe"]),
        (b"attachment; filename*=x-unknown''%41.exe", b"", ["A.exe"]),
        (b"attachment; filename*=%41.exe", b"", ["A.exe"]),
        (b'attachment; filename=""', b"text/plain; name", []),
        (b"filename=a.exe", b"", []),
    ],
)
def test_names_are_found(disposition: bytes, content_type: bytes, found: list[str]) -> None:
    assert list(names(disposition, content_type)) == found


def test_there_are_never_too_many_and_none_is_too_long() -> None:
    many = b"attachment" + b"".join(b"; filename=%d.exe" % number for number in range(100))
    assert len(names(many, b"")) == NAMES
    (long,) = names(b'attachment; filename="' + b"x" * 5000 + b'.exe"', b"")
    assert long.endswith("x.exe")
    assert len(long) == 1000


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("A.EXE", "a.exe"),
        ("evil.exe. . ", "evil.exe"),
        ("evil\u202etxt.exe", "eviltxt.exe"),
        ("ev\x00il.e\u200bxe\r\n", "evil.exe"),
        ("\uff45vil\uff0eexe", "evil.exe"),  # full width
        ("STRASSE.EXE", "strasse.exe"),
    ],
)
def test_a_name_is_held_against_patterns_as_its_reader_sees_it(name: str, shown: str) -> None:
    assert plain(name) == shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"=?utf-8?q?a_b?=", "a b"),
        (b"=?utf-8?q?a?= =?utf-8?q?b?=\r\n =?utf-8?b?Yw==?=", "abc"),
        (b"=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
        (b"=?utf-8?q?=C3?= =?utf-8?q?=A9?=", "é"),
        (b"=?iso-8859-1?q?=E9?= =?utf-8?q?=C3=A9?=", "éé"),
        (b"=?iso-2022-jp?b?GyRCJCIbKEI=?=", "あ"),
        (b"=?utf-8*en?q?x?=", "x"),
        (b"=?utf-8?b?YQ?=", "a"),
        (b"=?nobody-knows?q?=E9?=", "é"),
        (b"=?rot13?q?abc?= =?unicode_escape?q?=5Cx41?=", "abc\\x41"),
        (b"=?utf-8?q?never closed", "=?utf-8?q?never closed"),
        ("é".encode(), "é"),
        (b"\xe9", "é"),
    ],
)
def test_encoded_words_are_decoded(value: bytes, text: str) -> None:
    assert decoded(value) == text


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_have_names_or_none(disposition: bytes, content_type: bytes) -> None:
    for name in names(b"x; filename" + disposition, b"y; name=" + content_type):
        assert 0 < len(name) <= 1000
        assert "\n" not in plain(name)
    assert "\n" not in decoded(disposition)
