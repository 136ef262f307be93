"""Large bodies are written as they come, under an ID asked for beforehand; small ones are handed over whole."""

import pytest

from kmq.intake import deeds
from kmq.model.reply import Reply
from tests.intake.doors import Talk, receiver

LINE = b"x" * 70 + b"\r\n"
BEGIN = b"MAIL FROM:<a@a.test>\r\nRCPT TO:<bob@us.test>\r\n"


def begun(**options) -> Talk:
    client = Talk(greeted=True, small_body=1000, **options)
    assert client.codes(BEGIN + b"DATA\r\n") == [250, 250, 354]
    return client


def kinds(client: Talk) -> list[str]:
    return [type(deed).__name__ for deed in client.done if not isinstance(deed, deeds.Note | deeds.NoteAccepted)]


def test_up_to_the_limit_a_body_is_small():
    client = begun()
    client.send(b"x" * 998 + b"\r\n.\r\n")
    assert kinds(client) == ["Put"]
    client.codes(BEGIN + b"DATA\r\n")
    client.send(b"x" * 500 + b"\r\n" + b"x" * 497 + b"\r\n.\r\n")
    assert kinds(client)[1:] == ["Reserve", "Open", "Write", "PutLarge"]
    assert [len(message.content) for message in client.door.messages] == [1000, 1001]


@pytest.mark.parametrize("step", [1, 7, 72, 999, 5000, 100_000])
def test_a_large_body_arrives_whole_whatever_its_reads(step):
    client = begun()
    text = LINE * 200 + b"..dots\r\n"
    wire = text + b".\r\n"
    said = client.send(*(wire[at : at + step] for at in range(0, len(wire), step)))
    assert said == ["250 2.0.0 69212ad0-00000001 accepted"]
    (message,) = client.door.messages
    assert message.content == LINE * 200 + b".dots\r\n"
    assert b" id 69212ad0-00000001\r\n\tfor <bob@us.test>; " in message.trace
    assert message.head.dots
    assert client.door.bodies[0].state == "handed over"


def test_nothing_is_written_before_the_id_is_known():
    client = begun()
    client.door.slow = True
    client.send(LINE * 20)
    assert kinds(client) == ["Reserve"]
    assert client.session.waiting
    client.send(LINE * 20)
    assert kinds(client) == ["Reserve"]
    client.door.open_up()
    assert kinds(client) == ["Reserve", "Open", "Write", "Write"]
    assert not client.session.waiting
    client.send(LINE + b".\r\n")
    client.door.open_up()
    assert client.door.messages[0].content == LINE * 41


def test_the_whole_message_may_be_there_before_the_id_is():
    client = begun()
    client.door.slow = True
    client.send(LINE * 20 + b".\r\nNOOP\r\n")
    client.door.open_up()
    assert kinds(client) == ["Reserve", "Open", "Write", "PutLarge"]
    client.door.open_up()
    assert client.said.endswith(b"accepted\r\n250 2.0.0 Ok\r\n")


def test_without_an_id_the_message_is_refused_at_its_end():
    client = begun()
    client.door.refuses = Reply(451, "4.3.0", "No ID")
    assert client.send(LINE * 20, LINE * 20) == []
    assert client.send(b".\r\nNOOP\r\n") == ["451 4.3.0 No ID", "250 2.0.0 Ok"]
    assert kinds(client) == ["Reserve"]
    assert client.door.messages == []


@pytest.mark.parametrize("fault", [b"bare\nLF\r\n", b"N\0L\r\n", b"x" * 1200 + b"\r\n", LINE * 1000])
def test_a_fault_drops_the_file(fault):
    client = begun(section=receiver(size_limit=70_000))
    client.send(LINE * 30)
    assert client.door.bodies[0].state == "open"
    assert client.send(fault, LINE) == []
    assert client.door.bodies[0].state == "discarded", "at once: nobody needs it any more"
    (said,) = client.send(LINE + b".\r\n")
    assert said[0] == "5"
    assert client.door.messages == []


def test_too_many_hops_drop_the_file():
    client = begun(section=receiver(hop_limit=10))
    assert client.send(b"Received: x\r\n" * 11 + b"\r\n" + LINE * 30 + b".\r\n") == ["554 5.4.6 Too many hops"]
    assert client.door.bodies[0].state == "discarded"


@pytest.mark.parametrize("end", ["gone", "timed_out", "expelled"])
def test_an_end_in_the_middle_drops_the_file(end):
    client = begun()
    client.send(LINE * 30)
    client.perform(getattr(client.session, end)())
    assert client.door.bodies[0].state == "discarded"
    assert client.session.receive(b".\r\n") == (b"", ())


@pytest.mark.parametrize("end", ["gone", "expelled"])
def test_an_end_after_the_dot_leaves_the_file_to_the_door(end):
    client = begun()
    client.send(LINE * 30)
    client.door.slow = True
    client.send(b".\r\n")
    client.perform(getattr(client.session, end)())
    client.door.open_up()
    assert client.door.bodies[0].state == "handed over"
    assert len(client.door.messages) == 1


def test_an_end_while_the_id_is_asked_for_makes_no_file():
    client = begun()
    client.door.slow = True
    client.send(LINE * 30)
    client.perform(client.session.gone())
    client.door.open_up()
    assert client.door.bodies == []


def test_twice_the_limit_is_the_end():
    client = begun(section=receiver(size_limit=70_000))
    client.send(*[LINE * 100] * 30)
    assert client.said.endswith(b"552 5.3.4 Message too big\r\n")
    assert client.closed
    assert client.door.bodies[0].state == "discarded"


def test_a_message_a_little_too_big_is_read_to_its_end():
    client = begun(section=receiver(size_limit=70_000))
    assert client.send(*[LINE * 100] * 10, b".\r\nNOOP\r\n") == ["552 5.3.4 Message too big", "250 2.0.0 Ok"]


# --- BDAT -----------------------------------------------------------------------------------------------------------


def bdat(text: bytes, last: bool = False) -> bytes:
    return b"BDAT %d%b\r\n%b" % (len(text), b" LAST" if last else b"", text)


def chunking(**options) -> Talk:
    client = Talk(greeted=True, small_body=1000, **options)
    assert client.codes(BEGIN) == [250, 250]
    return client


def test_chunks_make_a_message():
    client = chunking()
    assert client.send(bdat(b"Subject: x\r\n"), bdat(b"\r\nhel"), bdat(b"lo\r\n.\r\n", last=True)) == [
        "250 2.0.0 12 octets received",
        "250 2.0.0 5 octets received",
        "250 2.0.0 69212ad0-00000001 accepted",
    ]
    assert client.door.messages[0].content == b"Subject: x\r\n\r\nhello\r\n.\r\n"


@pytest.mark.parametrize("step", [1, 13, 1000, 100_000])
def test_large_chunks_in_any_reads(step):
    client = chunking()
    wire = bdat(LINE * 30) + bdat(LINE * 30 + b"no end") + bdat(b" of line", last=True) + b"NOOP\r\n"
    codes = client.codes(*(wire[at : at + step] for at in range(0, len(wire), step)))
    assert codes == [250, 250, 250, 250]
    assert client.door.messages[0].content == LINE * 60 + b"no end of line\r\n"


@pytest.mark.parametrize("size", [999, 1000, 1001, 1002])
def test_the_id_may_be_asked_for_at_any_point_of_a_chunk(size):
    client = chunking()
    client.door.slow = True
    text = (LINE * 20)[: size - 2] + b"\r\n"
    client.send(bdat(text) + bdat(b"", last=True) + b"NOOP\r\n")
    while client.door.due:
        client.door.open_up()
    assert client.said.endswith(b"accepted\r\n250 2.0.0 Ok\r\n")
    assert client.door.messages[0].content == text


def test_for_an_empty_chunk_nothing_is_waited_for():
    client = Talk(greeted=True)
    assert client.codes(b"BDAT 0\r\n") == [503]
    assert client.codes(BEGIN + b"BDAT 0\r\n", b"BDAT 0\r\n", b"BDAT 1 LAST\r\nx") == [250, 250, 250, 250, 250]


def test_an_empty_last_chunk_is_fine():
    client = chunking()
    assert client.codes(b"BDAT 3\r\nabcBDAT 0 LAST\r\n") == [250, 250]
    client.codes(BEGIN)
    assert client.codes(b"bdat 0 last\r\n") == [250]
    assert [message.content for message in client.door.messages] == [b"abc\r\n", b""]


@pytest.mark.parametrize("before", [b"", BEGIN[:22], b"MAIL FROM:<a@b>\r\nRCPT TO:<nobody@us.test>\r\n"])
def test_a_chunk_out_of_sequence_is_skipped_in_step(before):
    client = Talk(greeted=True)
    client.send(before)
    codes = client.codes(b"BDAT 12\r\nQUIT\r\nQUIT\r\nNOOP\r\n")
    assert codes == [503, 250]
    assert not client.closed


def test_a_chunk_that_is_skipped_changes_nothing():
    client = Talk()
    assert client.codes(b"BDAT 1\r\nxMAIL FROM:<a@b>\r\n", b"EHLO c\r\n") == [503, 503, 250]
    assert client.codes(b"MAIL FROM:<a@b>\r\nBDAT 1 LAST\r\nxRCPT TO:<bob@us.test>\r\n") == [250, 503, 250]


def test_after_a_fault_the_rest_of_the_chunks_is_skipped():
    client = chunking(section=receiver(size_limit=2000))
    codes = client.codes(bdat(LINE * 20), bdat(LINE * 20) + bdat(LINE) + bdat(LINE, last=True), BEGIN)
    assert codes == [250, 552, 503, 503, 250, 250]


def test_between_chunks_there_is_no_other_message():
    client = chunking()
    assert client.codes(b"BDAT 3\r\nabc") == [250]
    assert client.codes(b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<b@us.test>\r\n", b"DATA\r\n") == [503, 503, 503]
    assert client.codes(b"NOOP\r\n", b"BDAT 2 LAST\r\n\r\n") == [250, 250]
    assert client.door.messages[0].content == b"abc\r\n"


def test_rset_forgets_chunks():
    client = chunking()
    client.send(bdat(LINE * 30))
    assert client.codes(b"RSET\r\n", b"BDAT 1 LAST\r\nx") == [250, 503]
    assert client.door.bodies[0].state == "discarded"


@pytest.mark.parametrize("argument", ["", "x", "-1", "1 FIRST", "1 LAST x", "1,2", "1" * 19, "+1", "0x10"])
def test_a_chunk_of_unknown_size_ends_the_talk(argument):
    client = chunking()
    assert client.send(f"BDAT {argument}\r\nQUIT\r\n".encode()) == ["501 5.5.4 Syntax: BDAT size [LAST]"]
    assert client.closed


def test_a_chunk_far_too_big_is_not_read():
    client = chunking(section=receiver(size_limit=1000))
    assert client.send(b"BDAT 2001\r\nxxx") == ["552 5.3.4 Message too big"]
    assert client.closed
