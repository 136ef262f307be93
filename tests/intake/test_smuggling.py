"""Only CRLF . CRLF ends a message: whatever looks like it must neither end it nor be passed on (CVE-2023-51764 ff.)."""

import pytest

from tests.intake.doors import Talk, receiver

#: What ends a message for some server or other, but not for us; the message is refused.
NO_END = [
    b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\n\n.\r\n", b"\n.\n\r\n", b"\r\n.\r\0\n", b"\r\n\r.\r\n",
    b"\r\n.\n\r\n", b"\n\r\n", b"\r", b"\n", b"\0", b"\r\n.\r\r\n.", b"\r\n\n.\n\r\n", b"\r\0\n.\r\0\n",
]  # fmt: skip

#: What is a line like any other; the message is taken whole.
NO_MATTER = [
    b"\r\n .\r\n", b"\r\n. \r\n", b"\r\n..\r\n", b"\x85.\x85", b"\x0b.\x0b", b"\x0c.\x0c", b"\x1c.\x1c",
    b"\xe2\x80\xa8.\xe2\x80\xa8", b".", b"..", b"\r\n.x\r\n", b"\r\n...\r\n", b"\r\n.\t\r\n",
]  # fmt: skip

SECOND = b"MAIL FROM:<evil@us.test>\r\nRCPT TO:<bob@us.test>\r\nDATA\r\nSMUGGLED\r\n.\r\n"


def begun(**limits: int) -> Talk:
    client = Talk(greeted=True, section=receiver(**limits))
    assert client.codes(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<bob@us.test>\r\nDATA\r\n") == [250, 250, 354]
    return client


def unstuffed(text: bytes) -> bytes:
    lines = text.split(b"\r\n")
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


@pytest.mark.parametrize("sequence", NO_END)
@pytest.mark.parametrize("before", [b"Subject: x\r\n\r\nhello", b"", b"Subject: x\r\n\r\n"])
def test_it_ends_nothing_and_is_refused_wherever_it_is_torn(before, sequence):
    text = before + sequence + SECOND
    for cut in range(len(text) - len(SECOND) + 3):
        client = begun()
        said = client.send(text[:cut], text[cut:])
        assert len(said) == 1
        assert said[0] in ("550 5.5.2 Bare CR or LF received", "550 5.6.0 NUL received")
        assert client.door.messages == []
        if "Bare" in said[0]:
            assert client.closed
            assert client.send(b"NOOP\r\n") == []
        else:
            assert client.send(b"NOOP\r\n") == ["250 2.0.0 Ok"], "and we are in step"


@pytest.mark.parametrize("sequence", NO_END)
def test_byte_by_byte_too(sequence):
    client = begun()
    text = b"x\r\n" + sequence + SECOND
    said = client.send(*(text[at : at + 1] for at in range(len(text))))
    assert len(said) == 1
    assert said[0].startswith("550 5.")
    assert client.door.messages == []


@pytest.mark.parametrize("sequence", NO_MATTER)
@pytest.mark.parametrize("before", [b"Subject: x\r\n\r\nhello", b"", b"Subject: x\r\n\r\n"])
def test_a_line_is_a_line_wherever_it_is_torn(before, sequence):
    text = before + sequence + SECOND
    for cut in range(len(text) - len(SECOND) + 3):
        client = begun()
        (said,) = client.send(text[:cut], text[cut:])
        assert said.startswith("250 2.0.0")
        (message,) = client.door.messages
        assert message.content == unstuffed(text[: -len(b".\r\n")])


@pytest.mark.parametrize("sequence", [*NO_END, *NO_MATTER])
def test_the_end_of_a_message_that_is_too_big_is_its_end_too(sequence):
    client = begun(size_limit=70_000)
    big = (b"x" * 70 + b"\r\n") * 1000
    (said,) = client.send(big, sequence + SECOND)
    assert said.startswith(("550", "552"))
    assert client.door.messages == []
    assert client.closed == ("Bare" in said)


@pytest.mark.parametrize("sequence", NO_END)
def test_a_chunk_is_judged_like_a_message(sequence):
    text = b"Subject: x\r\n\r\n" + sequence + b"y\r\n"
    for cut in range(len(text) + 1):
        client = Talk(greeted=True)
        client.send(b"MAIL FROM:<a@a.test>\r\nRCPT TO:<bob@us.test>\r\n")
        chunks = b"BDAT %d\r\n%bBDAT %d LAST\r\n%b" % (cut, text[:cut], len(text) - cut, text[cut:])
        said = client.send(chunks)
        refused = [line for line in said if line.startswith("550")]
        assert len(refused) == 1
        assert refused[0] in ("550 5.5.2 Bare CR or LF received", "550 5.6.0 NUL received")
        assert client.door.messages == []


def test_nul_and_bare_lf_is_the_graver_of_the_two_however_it_is_cut():
    text = b"a\0b\r\nc\nd\r\n.\r\n"
    for cut in range(len(text)):
        client = begun()
        assert client.send(text[:cut], text[cut:]) == ["550 5.5.2 Bare CR or LF received"]
