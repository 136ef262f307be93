"""A receiver for users' programs completes headers, however the bytes come; port 25 leaves every byte."""

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.intake.doors import Talk, receiver


def client(**options):
    small_body = options.pop("small_body", 64 * 1024)
    return Talk(section=receiver(submission=True, **options), small_body=small_body, greeted=True)


def parsed(message):
    return email.message_from_bytes(message.content, policy=email.policy.default)


def facts_hold(message):
    lines = message.body.split(b"\r\n")
    assert message.head.size == len(message.body)
    assert message.head.longest >= max(map(len, lines))
    assert message.head.dots or not any(line.startswith(b".") for line in lines)
    assert message.head.eight_bit == (not message.body.isascii())
    return True


def test_what_a_program_leaves_out_is_added():
    talk = client()
    assert talk.mail(b"Subject: hi\r\nTo: bob\r\n\r\nHello\r\n.\r\n")[0].startswith("250 ")
    (message,) = talk.door.messages
    mail = parsed(message)
    assert mail["From"] == "alice@client.test"
    assert mail["To"] == "bob@us.test"
    assert mail["Date"].datetime.timestamp() == 0x69212AD0
    assert mail["Message-ID"].endswith("@mx.us.test>")
    assert mail.get_content() == "Hello\r\n"
    assert facts_hold(message)


@pytest.mark.parametrize("content", [b"Hello\r\n", b"", b"Subject: only a header\r\n", b"\r\nHello: no header\r\n"])
def test_a_message_without_header_or_text_gets_what_it_lacks(content):
    talk = client()
    assert talk.mail(content + b".\r\n")[0].startswith("250 ")
    (message,) = talk.door.messages
    mail = parsed(message)
    assert {"From", "Date", "Message-ID"} <= set(mail.keys())
    assert mail.get_content().encode() in (content, content[2:], b"")
    assert (b"Hello" in content) == (b"Hello" in message.content)
    assert facts_hold(message)


def test_port_25_leaves_every_byte_as_it_was_sent():
    talk = Talk(greeted=True)
    talk.mail(b"To: bob\r\nFrom: a\r\nFrom: b\r\n\r\nHello\r\n.\r\n")
    assert talk.door.messages[0].content == b"To: bob\r\nFrom: a\r\nFrom: b\r\n\r\nHello\r\n"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"From: a@x\r\nFrom: b@x\r\n\r\n", "there is more than one From"),
        (b"Bcc: " + b"a," * 40_000 + b"a\r\n\r\n", "the header has more than 100000 bytes"),
    ],
)
@pytest.mark.parametrize("rest", [b"Hello\r\n", b"x\r\n" * 50_000])
def test_a_header_that_must_not_be_taken_is_refused_and_the_talk_goes_on(content, why, rest):
    talk = client(line_limit=100_000)
    assert talk.mail(content + rest + b".\r\n") == [f"554 5.6.0 Bad header: {why}"]
    assert talk.door.messages == []
    assert all(body.state == "discarded" for body in talk.door.bodies)
    assert talk.mail(b"Subject: hi\r\n\r\nHello\r\n.\r\n")[0].startswith("250 ")


def test_a_large_message_streams_on_behind_its_completed_header():
    talk = client(small_body=1024)
    header = b"To: bob\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(300))
    text = b"\xc3\xa4 line of text\r\n" * 20_000
    assert talk.mail(header + b"\r\n" + text + b".\r\n")[0].startswith("250 ")
    (message,) = talk.door.messages
    assert talk.door.bodies[0].state == "handed over"
    assert b"\r\nX-299: y\r\nDate: " in message.content
    assert message.content.endswith(b"\r\n\r\n" + text)
    assert facts_hold(message)


def test_lines_that_become_longer_are_counted():
    talk = client()
    talk.mail(b"To: " + b"b" * 60 + b"," + b"c" * 900 + b"\r\nX: y\r\n\r\nHello\r\n.\r\n")
    assert facts_hold(talk.door.messages[0])


def test_chunks_are_completed_too():
    talk = client(small_body=1024)
    talk.send(b"MAIL FROM:<alice@us.test>\r\nRCPT TO:<bob@us.test>\r\n")
    assert talk.codes(b"BDAT 9\r\nTo: bob\r\n", b"BDAT 5 LAST\r\n\r\nHi!") == [250, 250]
    (message,) = talk.door.messages
    assert parsed(message)["To"] == "bob@us.test"
    assert message.content.endswith(b"\r\n\r\nHi!\r\n")


def test_a_utf8_sender_makes_a_utf8_header():
    talk = client()
    talk.send("MAIL FROM:<jörg@us.test> SMTPUTF8\r\nRCPT TO:<bob@us.test>\r\nDATA\r\n".encode())
    assert talk.send(b"Subject: hi\r\n\r\nHello\r\n.\r\n")[0].startswith("250 ")
    (message,) = talk.door.messages
    assert "From: jörg@us.test\r\n".encode() in message.content
    assert facts_hold(message)


PIECES = [
    b"To: bob, ",
    b"c\r\n",
    b"From: a\r\n",
    b"\r\n",
    b" x",
    b"Subject: s\r\n",
    b"..\r\n",
    b"text\r\n",
    b"\xe9\r\n",
]


@given(st.lists(st.sampled_from(PIECES), max_size=12), st.integers(1, 40), st.sampled_from([1024, 64]))
def test_it_does_not_matter_how_the_bytes_are_cut(pieces, step, small_body):
    content = b"".join(pieces) + b"\r\n.\r\n"
    whole, cut = client(), client(small_body=small_body)
    first = whole.mail(content)
    second = cut.mail(b"", *(content[at : at + step] for at in range(0, len(content), step)))
    assert [line[:9] for line in first] == [line[:9] for line in second]

    def without_id(talk):
        return [
            [line for line in one.content.split(b"\r\n") if not line.startswith(b"Message-ID:")]
            for one in talk.door.messages
        ]

    assert without_id(whole) == without_id(cut)
    assert all(map(facts_hold, [*whole.door.messages, *cut.door.messages]))
