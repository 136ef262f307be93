"""The conversation, line by line: what is said when, and what is answered."""

import pytest

from kmq.intake.deeds import Close, StartTls
from kmq.log.accepted import Accepted, bringer
from kmq.model.reply import Reply
from tests.intake.doors import NO_STORAGE, MemoryDoor, Talk, receiver

MAIL = "MAIL FROM:<alice@client.test>"
RCPT = "RCPT TO:<bob@us.test>"


def talk(**options) -> Talk:
    return Talk(**options)


# What the client says, line by line -> the codes it hears (one reply each).
CONVERSATIONS = {
    "a message": [
        ("EHLO c", 250),
        (MAIL, 250),
        (RCPT, 250),
        ("DATA", 354),
        ("S: x\r\n\r\nhi\r\n.", 250),
        ("QUIT", 221),
    ],
    "HELO will do": [("HELO c", 250), (MAIL, 250), (RCPT, 250), ("DATA", 354), ("hi\r\n.", 250)],
    "lower case": [("ehlo c", 250), ("mail from:<a@c>", 250), ("rcpt to:<b@us.test>", 250), ("data", 354), (".", 250)],
    "two messages": [("EHLO c", 250), *[(MAIL, 250), (RCPT, 250), ("DATA", 354), (".", 250)] * 2],
    "MAIL before EHLO": [(MAIL, 503), ("EHLO c", 250), (MAIL, 250)],
    "RCPT before MAIL": [("EHLO c", 250), (RCPT, 503), (MAIL, 250), (RCPT, 250)],
    "DATA before RCPT": [("EHLO c", 250), ("DATA", 503), (MAIL, 250), ("DATA", 503), (RCPT, 250), ("DATA", 354)],
    "MAIL within a transaction": [("EHLO c", 250), (MAIL, 250), (MAIL, 503), (RCPT, 250), (MAIL, 503)],
    "no good recipient": [("EHLO c", 250), (MAIL, 250), ("RCPT TO:<nobody@us.test>", 550), ("DATA", 503)],
    "RSET": [("RSET", 250), ("EHLO c", 250), (MAIL, 250), (RCPT, 250), ("RSET", 250), (RCPT, 503), (MAIL, 250)],
    "EHLO resets": [("EHLO c", 250), (MAIL, 250), (RCPT, 250), ("EHLO c", 250), (RCPT, 503), ("DATA", 503)],
    "idle commands": [("NOOP", 250), ("NOOP x", 250), ("HELP", 214), ("VRFY bob", 252), ("EXPN all", 502)],
    "idle commands change nothing": [("EHLO c", 250), (MAIL, 250), ("NOOP", 250), ("VRFY x", 252), (RCPT, 250)],
    "unknown": [("FOO", 500), ("", 500), (" EHLO c", 500), ("ETRN x", 500), ("TURN", 500), ("XCLIENT A=B", 500)],
    "XFORWARD, AUTH": [("XFORWARD A=B", 500), ("AUTH PLAIN AGEAYg==", 500), ("SEND FROM:<a@b>", 500)],
    "EHLO needs a name": [("EHLO", 501), ("EHLO ", 501), ("HELO", 501), ("EHLO a b", 501), ("EHLO " + "a" * 256, 501)],
    "EHLO with odd names": [("EHLO a_b", 250), ("EHLO [1.2.3.4]", 250), ("EHLO [IPv6:::1]", 250), ("EHLO x;y", 250)],
    "no argument": [
        ("RSET x", 501),
        ("QUIT x", 501),
        ("EHLO c", 250),
        (MAIL, 250),
        (RCPT, 250),
        ("DATA x", 501),
    ],
    "syntax": [("EHLO c", 250), ("MAIL", 501), ("MAIL TO:<a@b>", 501), ("MAIL FROM", 501), ("MAIL FROM:a@b", 501)],
    "syntax of RCPT": [("EHLO c", 250), (MAIL, 250), ("RCPT", 501), ("RCPT TO:b@us.test", 501), ("RCPT TO:<>", 501)],
    "a blank behind the colon": [("EHLO c", 250), ("MAIL FROM: <a@c>", 250), ("RCPT TO:  <b@us.test>", 250)],
    "the null sender": [
        ("EHLO c", 250),
        ("MAIL FROM:<>", 250),
        (RCPT, 250),
        ("RCPT TO:<b@us.test>", 250),
        ("DATA", 354),
    ],
    "postmaster": [("EHLO c", 250), (MAIL, 250), ("RCPT TO:<postmaster>", 250), ("RCPT TO:<Postmaster@us.test>", 250)],
    "NUL": [("NOOP \0", 501), ("EHLO \0", 501), ("MAIL FROM:<\0@b>", 501)],
    "bare CR": [("NOOP \r x", 500), ("EHLO c\r", 500)],
    "control characters": [("EHLO x\x1b[2J", 501), ("EHLO \x7f", 501)],
    "no certificate": [("EHLO c", 250), ("STARTTLS", 502)],
    "VRFY tells nothing": [("VRFY nobody@us.test", 252), ("VRFY bob@us.test", 252)],
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation(name):
    client = talk()
    for line, code in CONVERSATIONS[name]:
        assert client.codes(f"{line}\r\n".encode()) == [code], line
        assert not client.closed or line == "QUIT"


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_every_reply_but_greeting_and_hello_has_an_enhanced_code(name):
    client = talk()
    for line, _ in CONVERSATIONS[name]:
        for reply in client.send(f"{line}\r\n".encode()):
            if not line.upper().startswith(("EHLO", "HELO")) or reply[0] == "5":
                assert reply[:4] == "354 " or reply.split()[1].startswith(f"{reply[0]}."), reply


def test_the_greeting_and_what_we_can_do():
    client = talk()
    assert client.said == b"220 mx.us.test ESMTP kmq\r\n"
    assert client.send(b"EHLO c\r\n") == [
        "250-mx.us.test",
        "250-PIPELINING",
        "250-SIZE 26214400",
        "250-8BITMIME",
        "250-SMTPUTF8",
        "250-ENHANCEDSTATUSCODES",
        "250-CHUNKING",
        "250 DSN",
    ]


def test_what_was_accepted_is_handed_over_whole():
    client = talk(greeted=True)
    assert client.mail(b"Subject: x\r\n\r\nhello\r\n.\r\n") == ["250 2.0.0 69212ad0-00000001 accepted"]
    (message,) = client.door.messages
    assert message.content == b"Subject: x\r\n\r\nhello\r\n"
    assert message.trace == (
        b"Received: from client.test ([192.0.2.7])\r\n"
        b"\tby mx.us.test (kmq) with ESMTP id 69212ad0-00000001\r\n"
        b"\tfor <bob@us.test>; Sat, 22 Nov 2025 03:15:28 +0000\r\n"
    )
    head = message.head
    assert head.sender == "alice@client.test"
    assert [recipient.address for recipient in head.recipients] == ["bob@us.test"]
    assert head.created == "2025-11-22T03:15:28.250Z"
    assert (head.source.how, head.source.ip, head.source.helo, head.source.receiver) == (
        "smtp",
        "192.0.2.7",
        "client.test",
        "mx",
    )
    assert (head.eight_bit, head.dots, head.smtputf8, head.hops) == (False, False, False, 0)
    assert head.longest == max(map(len, message.body.split(b"\r\n")))


@pytest.mark.parametrize(
    ("hello", "parameters", "protocol"),
    [
        ("HELO c", "", b"SMTP"),
        ("EHLO c", "", b"ESMTP"),
        ("EHLO c", " SMTPUTF8", b"UTF8SMTP"),
    ],
)
def test_the_trace_says_how_it_came(hello, parameters, protocol):
    client = talk()
    client.codes(f"{hello}\r\n{MAIL}{parameters}\r\n{RCPT}\r\nDATA\r\n".encode())
    client.send(b".\r\n")
    assert b" with " + protocol + b" id 6" in client.door.messages[0].trace


def test_who_else_gets_the_message_is_nobody_s_business():
    client = talk(greeted=True)
    client.mail(b".\r\n", to=("bob@us.test", "carol@us.test"))
    (message,) = client.door.messages
    assert b"for <" not in message.trace
    assert message.trace.count(b"\r\n") == 3
    assert message.trace.split(b"\r\n")[1].endswith(b";")


def test_what_a_client_calls_itself_cannot_break_the_trace():
    client = talk(ip="2001:db8::7")
    client.send(b'EHLO x(y);\xffz"\\\r\n')
    client.mail(b".\r\n")
    (message,) = client.door.messages
    assert message.trace.startswith(b"Received: from x?y???z?? ([IPv6:2001:db8::7])\r\n")
    assert message.head.source.helo == 'x(y);\\xffz"\\'


def test_the_same_recipient_twice_is_one():
    client = talk(greeted=True)
    client.mail(b".\r\n", to=("bob@us.test", "bob@US.test", "Bob@us.test", '"bob"@us.test'))
    assert [one.address for one in client.door.messages[0].head.recipients] == ["bob@us.test", "Bob@us.test"]


def test_parameters_of_dsn_are_kept():
    client = talk(greeted=True)
    client.codes(
        b"MAIL FROM:<a@c.test> RET=hdrs ENVID=QQ+3D314159 SIZE=100 BODY=8BITMIME\r\n"
        b"RCPT TO:<bob@us.test> NOTIFY=success,Failure ORCPT=rfc822;Bob+2BX@Us.Test\r\n"
        b"RCPT TO:<carol@us.test> NOTIFY=NEVER\r\nDATA\r\n"
    )
    client.send(b".\r\n")
    head = client.door.messages[0].head
    assert (head.ret, head.envid) == ("HDRS", "QQ+3D314159")
    assert [(one.notify, one.orcpt) for one in head.recipients] == [
        ("SUCCESS,FAILURE", "rfc822;Bob+2BX@Us.Test"),
        ("NEVER", ""),
    ]


def test_an_international_transaction():
    client = talk(greeted=True)
    codes = client.codes("MAIL FROM:<пётр@почта.рф> SMTPUTF8\r\nRCPT TO:<жук@us.test>\r\nDATA\r\n".encode())
    assert codes == [250, 250, 354]
    client.send("Subject: ж\r\n\r\n.\r\n".encode())
    (message,) = client.door.messages
    assert message.head.smtputf8
    assert message.head.eight_bit
    assert message.head.sender == "пётр@почта.рф"
    assert message.head.recipients[0].address == "жук@us.test"
    assert message.trace.isascii()


def test_an_international_address_needs_its_extension():
    client = talk(greeted=True)
    assert client.send("MAIL FROM:<пётр@почта.рф>\r\n".encode()) == ["553 5.6.7 A non-ASCII address needs SMTPUTF8"]
    assert client.codes(f"{MAIL}\r\n".encode(), "RCPT TO:<жук@us.test>\r\n".encode()) == [250, 553]


# --- pipelining -----------------------------------------------------------------------------------------------------


def test_replies_of_one_read_are_said_at_once():
    client = talk(greeted=True)
    said, _ = client.session.receive(f"{MAIL}\r\n{RCPT}\r\nRCPT TO:<nobody@us.test>\r\nDATA\r\n".encode())
    assert [line[:3] for line in said.splitlines()] == [b"250", b"250", b"550", b"354"]


def test_what_comes_behind_the_final_dot_waits_for_its_answer():
    client = talk(greeted=True)
    client.door.slow = True
    assert client.mail(f"x\r\n.\r\n{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode()) == []
    assert client.session.waiting
    client.door.open_up()
    assert client.said.endswith(
        b"250 2.0.0 69212ad0-00000001 accepted\r\n250 2.1.0 Sender ok\r\n250 2.1.5 Recipient ok\r\n"
        b"354 End data with <CR><LF>.<CR><LF>\r\n"
    )


@pytest.mark.parametrize("command", ["DATA", "data"])
def test_nothing_may_come_behind_data_before_its_answer(command):
    client = talk(greeted=True)
    said = client.send(f"{MAIL}\r\n{RCPT}\r\n{command}\r\nSubject: x\r\n.\r\n".encode())
    assert said[-1] == "554 5.5.0 Protocol synchronization error"
    assert client.closed
    assert client.door.messages == []


@pytest.mark.parametrize("before", [b"", b"EHLO c\r\n", b"EHLO c\r\nMAIL FROM:<a@b>\r\n"])
def test_a_message_behind_a_data_that_is_refused_is_not_taken_for_commands(before):
    client = talk()
    said = client.send(before, b"DATA\r\nMAIL FROM:<evil@b>\r\n.\r\n")
    assert said[-1] == "554 5.5.0 Protocol synchronization error"
    assert client.closed


def test_a_client_that_speaks_first_is_no_mail_server():
    client = talk()
    client.session.__init__(client.session._rules, client.session._client)
    said, (note, close) = client.session.greet(early=True)
    assert said == b"554 5.5.0 Protocol synchronization error\r\n"
    assert note.event == "refused"
    assert close == Close(unread=True)


@pytest.mark.parametrize("line", ["GET / HTTP/1.1", "POST /x HTTP/1.1", "Host: us.test", "CONNECT us.test:25"])
def test_another_protocol_s_client_is_not_listened_to(line):
    client = talk()
    assert client.send(f"{line}\r\nMAIL FROM:<a@b>\r\n".encode()) == ["554 5.5.0 Protocol synchronization error"]
    assert client.closed


# --- limits ---------------------------------------------------------------------------------------------------------


def test_too_many_errors():
    client = talk(section=receiver(error_limit=3))
    assert client.codes(b"FOO\r\nBAR\r\nBAZ\r\nNOOP\r\n") == [500, 500, 421]
    assert client.said.endswith(b"421 4.7.0 Too many errors\r\n")
    assert client.closed
    assert client.codes(b"NOOP\r\n") == []


def test_a_message_makes_up_for_errors():
    client = talk(section=receiver(error_limit=3), greeted=True)
    client.send(b"FOO\r\nBAR\r\n")
    client.mail(b".\r\n")
    assert client.codes(b"FOO\r\nBAR\r\n") == [500, 500]
    assert not client.closed


def test_too_many_commands_that_bring_no_mail():
    client = talk(section=receiver(command_limit=5))
    codes = client.codes(b"EHLO c\r\nNOOP\r\nRSET\r\nVRFY x\r\nHELP\r\nNOOP\r\nNOOP\r\n")
    assert codes == [250, 250, 250, 252, 214, 421]
    assert client.said.endswith(b"421 4.7.0 Too many commands that bring no mail\r\n")
    assert client.closed


def test_too_many_recipients_is_for_now_only():
    client = talk(section=receiver(recipient_limit=100), greeted=True)
    client.send(f"{MAIL}\r\n".encode())
    lines = "".join(f"RCPT TO:<u{number}@us.test>\r\n" for number in range(150))
    assert client.codes(lines.encode()) == [250] * 100 + [452] * 50
    assert client.codes(b"RCPT TO:<u7@us.test>\r\n") == [250], "one of the hundred is no further one"
    assert client.codes(b"DATA\r\n", b".\r\n") == [354, 250]
    assert len(client.door.messages[0].head.recipients) == 100


@pytest.mark.parametrize("length", [2047, 2048, 5000, 65000])
def test_a_command_line_too_long_is_one_error(length):
    client = talk()
    line = b"NOOP " + b"x" * (length - 7) + b"\r\n"
    assert len(line) == length
    assert client.codes(line) == ([250] if length <= 2048 else [500])
    assert client.codes(b"NOOP\r\n") == [250]


def test_a_line_without_end_is_not_kept_and_not_borne_with():
    client = talk()
    for _ in range(70):
        client.send(b"x" * 1000)
        assert len(client.session._kept) <= 2048
    assert client.said.endswith(b"500 5.5.2 Line too long\r\n")
    assert client.closed


def test_bare_lf_ends_no_command_unnoticed():
    client = talk()
    assert client.send(b"EHLO c\nMAIL FROM:<a@b>\n") == ["500 5.5.2 Bare CR or LF received"] * 2


@pytest.mark.parametrize("line", [b"\n", b"\r\r\n", b"NO\rOP\r\n", b"NOOP\n", b"NOOP\r\r\n"])
def test_a_command_has_one_cr_and_that_at_its_end(line):
    client = talk()
    assert client.send(line) == ["500 5.5.2 Bare CR or LF received"]
    assert client.send(b"NOOP\r\n" + line) == ["250 2.0.0 Ok", "500 5.5.2 Bare CR or LF received"]


def test_a_message_announced_too_big_is_refused_at_mail():
    client = talk(section=receiver(size_limit=1000), greeted=True)
    assert client.codes(b"MAIL FROM:<a@b> SIZE=1000\r\nRSET\r\n") == [250, 250]
    assert client.send(b"MAIL FROM:<a@b> SIZE=1001\r\n") == ["552 5.3.4 Message too big"]


# --- the door -------------------------------------------------------------------------------------------------------


def test_a_closed_door_is_heard_at_mail_and_before_354():
    client = talk(greeted=True)
    client.door.refusal = NO_STORAGE
    assert client.send(f"{MAIL}\r\n".encode()) == ["452 4.3.1 Insufficient system storage"]
    client.door.refusal = None
    client.send(f"{MAIL}\r\n{RCPT}\r\n".encode())
    client.door.refusal = NO_STORAGE
    assert client.send(b"DATA\r\n") == ["452 4.3.1 Insufficient system storage"]
    assert client.send(b"BDAT 5 LAST\r\nhello") == ["452 4.3.1 Insufficient system storage"]
    client.door.refusal = None
    assert client.codes(f"{MAIL}\r\n{RCPT}\r\nDATA\r\n".encode()) == [250, 250, 354]


def test_what_the_door_refuses_the_client_hears():
    client = talk(greeted=True)
    client.door.refuses = Reply(451, "4.3.0", "Local storage error, try again later")
    assert client.mail(b"x\r\n.\r\n") == ["451 4.3.0 Local storage error, try again later"]
    client.door.refuses = None
    assert client.mail(b"x\r\n.\r\n")[0].startswith("250")
    assert len(client.door.messages) == 1


def test_a_reply_from_elsewhere_is_one_clean_line():
    client = talk(greeted=True)
    client.door.refuses = Reply(451, "4.3.0", "bad\r\n250 ok\x00 \u017e " + "x" * 2000)
    (line,) = client.mail(b"x\r\n.\r\n")
    assert line.startswith("451 4.3.0 bad??250 ok? ? xxx")
    assert len(line) < 510


# --- ends -----------------------------------------------------------------------------------------------------------


def test_a_client_that_goes_after_the_dot_is_only_missed_in_the_log():
    client = talk(greeted=True)
    client.door.slow = True
    client.mail(b"x\r\n.\r\n")
    client.perform(client.session.gone())
    client.door.open_up()
    assert len(client.door.messages) == 1
    assert client.accepted[-1].message.reason == "the client had gone"


def test_a_client_that_goes_before_the_dot_leaves_nothing():
    client = talk(greeted=True)
    client.mail(b"x\r\n")
    client.perform(client.session.gone())
    assert client.session.receive(b".\r\n") == (b"", ())
    assert client.door.messages == []


def test_who_is_too_slow_hears_it():
    client = talk(greeted=True)
    client.perform(client.session.timed_out())
    assert client.said.endswith(b"421 4.4.2 Timeout\r\n")
    assert client.closed
    assert client.session.timed_out() == (b"", ())


@pytest.mark.parametrize("before", [b"", b"EHLO c\r\n", b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@us.test>\r\n"])
def test_at_the_end_of_the_server_everybody_goes(before):
    client = talk()
    client.send(before)
    client.perform(client.session.stop())
    assert client.said.endswith(b"421 4.3.2 Shutting down, try again later\r\n")
    assert client.closed


def test_at_the_end_of_the_server_a_message_on_its_way_comes_to_its_end():
    client = talk(greeted=True)
    client.door.slow = True
    client.mail(b"x\r\n")
    client.perform(client.session.stop())
    assert not client.closed
    client.send(b"y\r\n.\r\n" + MAIL.encode() + b"\r\n")
    assert not client.closed
    client.door.open_up()
    assert client.said.endswith(b"250 2.0.0 69212ad0-00000001 accepted\r\n421 4.3.2 Shutting down, try again later\r\n")
    assert client.closed


def test_between_two_chunks_a_message_is_on_its_way():
    client = talk(greeted=True)
    client.send(f"{MAIL}\r\n{RCPT}\r\nBDAT 3\r\nabc".encode())
    client.perform(client.session.stop())
    assert not client.closed
    assert client.codes(b"BDAT 0 LAST\r\n") == [250, 421]


# --- STARTTLS -------------------------------------------------------------------------------------------------------


def test_starttls_is_a_deed_and_the_end_of_all_that_was_said():
    client = talk(starttls=True)
    assert "250-STARTTLS" in client.send(b"EHLO before\r\n")
    assert client.send(b"STARTTLS\r\n") == ["220 2.0.0 Ready to start TLS"]
    assert isinstance(client.done[-1], StartTls)
    client.perform(client.session.secured())
    assert client.codes(f"{MAIL}\r\n".encode()) == [503], "the EHLO in the clear is forgotten"
    assert "250-STARTTLS" not in client.send(b"EHLO after\r\n")
    assert client.codes(b"STARTTLS\r\n") == [502]
    client.mail(b".\r\n")
    assert client.door.messages[0].trace.startswith(b"Received: from after ")
    assert b" with ESMTPS id " in client.door.messages[0].trace


def test_commands_injected_behind_starttls_are_not_heard():
    client = talk(starttls=True)
    assert client.send(b"EHLO c\r\nSTARTTLS\r\nNOOP\r\n")[-1] == "554 5.5.0 Protocol synchronization error"
    assert client.closed


def test_what_comes_in_the_clear_during_the_handshake_is_forgotten():
    client = talk(starttls=True)
    client.send(b"EHLO c\r\nSTARTTLS\r\n")
    assert client.send(b"EHLO evil\r\nMAIL FROM:<evil@b>\r\n") == []
    assert client.session.secured() == (b"", ())
    assert client.send(b"NOOP\r\n") == ["250 2.0.0 Ok"]
    assert client.codes(f"{MAIL}\r\n".encode()) == [503]


def test_starttls_has_its_place():
    client = talk(starttls=True)
    client.send(b"EHLO c\r\n")
    assert client.codes(b"STARTTLS now\r\n") == [501]
    assert client.codes(f"{MAIL}\r\n".encode(), b"STARTTLS\r\n") == [250, 503]


# --- the log --------------------------------------------------------------------------------------------------------


def test_the_log_tells_who_was_refused_and_why():
    client = talk(greeted=True)
    client.send(f"{MAIL}\r\nRCPT TO:<v@v.test>\r\n".encode())
    assert client.notes[-1].keys == {
        "client": "192.0.2.7",
        "helo": "client.test",
        "proto": "ESMTP",
        "receiver": client.section.name,
        "from": "alice@client.test",
        "to": "v@v.test",
        "reply": "554 5.7.1 Relaying denied",
        "dsn": "5.7.1",
    }


def test_the_log_tells_how_each_message_came():
    client = talk(greeted=True)
    for parameters in ("", " SMTPUTF8", ""):
        assert client.codes(f"{MAIL}{parameters}\r\n{RCPT}\r\nDATA\r\n".encode(), b".\r\n")[-1] == 250
    assert [told.message.by.keys["proto"] for told in client.accepted] == ["ESMTP", "UTF8SMTP", "ESMTP"]
    client.send(b"HELO other.test\r\n")
    client.mail(b".\r\n")
    by = client.accepted[-1].message.by.keys
    assert (by["helo"], by["proto"]) == ("other.test", "SMTP")


def test_before_it_has_said_its_name_the_log_knows_the_address_alone():
    client = talk()
    client.send(b"GET / HTTP/1.1\r\n")
    (note,) = client.notes
    assert note.keys == {
        "client": "192.0.2.7",
        "helo": "",
        "receiver": client.section.name,
        "reply": "554 5.5.0 Protocol synchronization error",
        "dsn": "5.5.0",
    }


def test_the_log_tells_what_was_accepted():
    client = talk(greeted=True)
    client.mail(b"hello\r\n.\r\n")
    (told,) = client.accepted
    assert told.queue_id == "69212ad0-00000001"
    by = {"client": "192.0.2.7", "helo": "client.test", "proto": "ESMTP", "receiver": client.section.name}
    assert told.message == Accepted(bringer(by), "alice@client.test", ("bob@us.test",), 7, told.message.delay)
    assert float(told.message.delay) >= 0


def test_a_door_that_is_slow_holds_nobody_else():
    slow, quick = MemoryDoor(), MemoryDoor()
    slow.slow = True
    one, other = talk(door=slow, greeted=True), talk(door=quick, greeted=True)
    assert one.mail(b"x\r\n.\r\n") == []
    assert other.mail(b"x\r\n.\r\n")[0].startswith("250")
