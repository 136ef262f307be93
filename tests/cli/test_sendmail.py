"""kmq-sendmail, run as programs run it: each exit status, and what became of the message."""

import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

from kmq.model.reply import Reply
from tests.cli.programs import PROGRAM, Machine
from tests.waiting import until

ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def kmqd(machine: Machine) -> Iterator[None]:
    with machine.opened():
        yield


# --- taken ------------------------------------------------------------------------------------------------------------


def test_a_message_to_arguments(machine: Machine, kmqd: None) -> None:
    assert machine.sendmail("Subject: hello\n\nworld\n", "bob", "carol@far.test", "bob") == (0, "")
    head, body = machine.messages[0].head, message_from_bytes(machine.messages[0].body)
    assert machine.recipients == ["bob@us.test", "carol@far.test"]
    assert (head.sender, head.source.how, head.source.user) == (f"{ME}@us.test", "sendmail", ME)
    assert body["Subject"] == "hello" and f"{ME}@us.test" in body["From"]
    assert body["Message-ID"] and body["Date"]
    assert body.get_payload() == "world\r\n"


def test_text_without_a_header_is_text(machine: Machine, kmqd: None) -> None:
    assert machine.sendmail("hello\nworld", "bob")[0] == 0
    assert message_from_bytes(machine.messages[0].body).get_payload() == "hello\r\nworld\r\n"


def test_an_empty_message_is_one(machine: Machine, kmqd: None) -> None:
    assert machine.sendmail("", "bob")[0] == 0
    assert message_from_bytes(machine.messages[0].body).get_payload() == ""


def test_the_cron_way(machine: Machine, kmqd: None) -> None:
    """As cron calls it: `-FCronDaemon -i -odi -oem -oi -t -f root`."""
    text = f"From: {ME} (Cron Daemon)\nTo: bob\nSubject: Cron <x> y\n\n.\nstill there\n"
    assert machine.sendmail(text, "-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", ME) == (0, "")
    assert machine.recipients == ["bob@us.test"]
    body = machine.messages[0].body
    assert body.endswith(b"\r\n\r\n.\r\nstill there\r\n")
    assert f"From: {ME}@us.test (Cron Daemon)\r\n".encode() in body


def test_a_lone_dot_ends_the_message_unless_that_is_switched_off(machine: Machine, kmqd: None) -> None:
    text = "Subject: x\n\none\n.\ntwo\n"
    assert machine.sendmail(text, "bob")[0] == 0
    for option in ("-i", "-oi", "-ti"):
        assert machine.sendmail("To: bob\n" + text, option, "bob")[0] == 0
    bodies = [one.body.partition(b"\r\n\r\n")[2] for one in machine.messages]
    assert bodies == [b"one\r\n", *[b"one\r\n.\r\ntwo\r\n"] * 3]


def test_dots_lines_and_bytes_come_through_as_they_are(machine: Machine, kmqd: None) -> None:
    text = b"Subject: x\n\n.\n..\n...dots\r\n\xc3\xa4\xff\n" + b"x" * 5000 + b"\nFrom here\n"
    assert machine.sendmail(text, "-i", "bob")[0] == 0
    wanted = b".\r\n..\r\n...dots\r\n\xc3\xa4\xff\r\n" + b"x" * 5000 + b"\r\nFrom here\r\n"
    assert machine.messages[0].body.partition(b"\r\n\r\n")[2] == wanted
    assert machine.messages[0].head.eight_bit


def test_the_line_of_a_mailbox_on_top_goes(machine: Machine, kmqd: None) -> None:
    assert machine.sendmail("From bob Thu Jan  1 00:00:00 1970\nSubject: x\n\ny\n", "bob")[0] == 0
    assert b"From bob" not in machine.messages[0].body
    assert b"Subject: x\r\n" in machine.messages[0].body


def test_a_large_message_that_no_memory_need_hold(machine: Machine, kmqd: None) -> None:
    line = b"0123456789abcdef" * 4 + b"\n"
    assert machine.sendmail(b"Subject: large\n\n" + line * 200_000, "-f", "boss@far.test", "bob") == (0, "")
    assert b"\r\nX-Authenticated-Sender: " in machine.messages[0].body[:500]
    assert machine.messages[0].body.endswith(line[:-1] + b"\r\n")
    assert machine.messages[0].body.count(line[:-1]) == 200_000


def test_thousands_of_recipients(machine: Machine) -> None:
    names = [f"user{number}@far.test" for number in range(3000)]
    with machine.opened(recipient_limit=5000):
        assert machine.sendmail("x\n", *names) == (0, "")
    assert machine.recipients == names
    with machine.opened(recipient_limit=1000):
        status, said = machine.sendmail("x\n", *names)
        assert status == os.EX_UNAVAILABLE and "452 4.5.3 Too many recipients; nothing was sent" in said
    assert len(machine.messages) == 1


# --- -t ---------------------------------------------------------------------------------------------------------------


def test_recipients_of_the_header_and_bcc_goes(machine: Machine, kmqd: None) -> None:
    text = 'To: Bob <bob>, "Doe, J." <j@far.test>\nCc: (all) list: a@far.test,\n b@far.test;\nBcc: secret\n\nx\n'
    assert machine.sendmail(text, "-t", "extra") == (0, "")
    assert machine.recipients == [
        "extra@us.test", "bob@us.test", "j@far.test", "a@far.test", "b@far.test", "secret@us.test",
    ]  # fmt: skip
    body = machine.messages[0].body
    assert b"secret" not in body and b"Bcc" not in body
    assert b'To: Bob <bob@us.test>, "Doe, J." <j@far.test>\r\n' in body


def test_without_t_the_header_names_nobody(machine: Machine, kmqd: None) -> None:
    assert machine.sendmail("To: other@far.test\nBcc: kept@far.test\n\nx\n", "bob")[0] == 0
    assert machine.recipients == ["bob@us.test"]
    assert b"Bcc: kept@far.test\r\n" in machine.messages[0].body


def test_what_is_sent_on_goes_to_those_of_resent(machine: Machine, kmqd: None) -> None:
    text = "Resent-To: new@far.test\nResent-Bcc: hidden@far.test\nTo: old@far.test\nBcc: older@far.test\n\nx\n"
    assert machine.sendmail(text, "-t")[0] == 0
    assert machine.recipients == ["new@far.test", "hidden@far.test"]
    assert b"hidden" not in machine.messages[0].body
    assert machine.sendmail("Resent-From: me\nTo: old@far.test\n\nx\n", "-t")[0] == 0
    assert machine.recipients == ["old@far.test"], "it was sent on before, to nobody in particular"


def test_only_the_header_is_searched(machine: Machine, kmqd: None) -> None:
    assert machine.sendmail("To: bob\n\nBcc: text@far.test\n", "-t")[0] == 0
    assert machine.recipients == ["bob@us.test"]
    assert b"\r\n\r\nBcc: text@far.test\r\n" in machine.messages[0].body


# --- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "sender"),
    [
        (["-f", "alice@far.test"], "alice@far.test"),
        (["-falice"], "alice@us.test"),
        (["-r", "Alice <alice@far.test>"], "alice@far.test"),
        (["-f", "<>"], ""),
        (["-f", ""], ""),
    ],
)
def test_the_sender(machine: Machine, kmqd: None, words: list[str], sender: str) -> None:
    assert machine.sendmail("x\n", *words, "bob") == (0, "")
    assert machine.messages[0].head.sender == sender
    assert b"\r\nX-Authenticated-Sender: " + ME.encode() + b"@mx.us.test (uid " in machine.messages[0].body


def test_the_full_name(machine: Machine, kmqd: None) -> None:
    assert machine.sendmail("x\n", "-F", 'Jörg "J" <x>', "bob")[0] == 0
    assert machine.sendmail("x\n", "bob", env={"NAME": "Alice B"})[0] == 0
    assert machine.sendmail("From: me <me@far.test>\n\nx\n", "-F", "Ignored", "bob")[0] == 0
    authors = [message_from_bytes(one.body)["From"] for one in machine.messages]
    assert authors[0].startswith("=?utf-8?b?")
    assert authors[1:] == [f"Alice B <{ME}@us.test>", "me <me@far.test>"]


def test_what_is_to_be_told_of_delivery(machine: Machine, kmqd: None) -> None:
    words = ["-N", "success,delay", "-R", "hdrs", "-V", "a=b+c", "-B", "8BITMIME"]
    assert machine.sendmail("x\n", *words, "bob") == (0, "")
    assert machine.sendmail("x\n", "-Nnever", "bob") == (0, "")
    first, second = (one.head for one in machine.messages)
    assert (first.ret, first.envid, first.recipients[0].notify) == ("HDRS", "a+3Db+2Bc", "SUCCESS,DELAY")
    assert second.recipients[0].notify == "NEVER"


def test_addresses_beyond_ascii(machine: Machine, kmqd: None) -> None:
    assert machine.sendmail("To: jörg@far.test\n\nx\n", "-t") == (0, "")
    assert machine.recipients == ["jörg@far.test"] and machine.messages[0].head.smtputf8


def test_verbose_shows_the_conversation(machine: Machine, kmqd: None) -> None:
    status, said = machine.sendmail("x\n", "-v", "bob")
    assert status == 0 and "> RCPT TO:<bob>" in said and "accepted" in said


# --- not taken: each status, and nothing was sent ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "recipients are needed"),
        (["-Z", "bob"], "there is no option -Z"),
        (["-tiZ"], "there is no option -Z (in '-tiZ')"),
        (["--help"], "there is no option --"),
        (["-bx", "bob"], "there is no mode -bx"),
        (["-f"], "option -f needs a value"),
        (["-f", "a@b.test, c@d.test", "bob"], "is not one address"),
        (["-N", "sometimes", "bob"], "is neither never nor a list"),
        (["-R", "half", "bob"], "is not one of full, hdrs"),
        (["-V", "a b", "bob"], "-V needs an identifier"),
        (["bob\nRCPT TO:<eve@far.test>"], "is no address"),
        (["bob\r\nDATA"], "is no address"),
        (["<bob"], "is no address"),
        (["-qS"], "-qS is not here"),
    ],
)
def test_wrong_usage(machine: Machine, kmqd: None, words: list[str], said: str) -> None:
    status, text = machine.sendmail("x\n", *words)
    assert status == os.EX_USAGE and said in text and text.startswith("kmq-sendmail: ")
    assert machine.messages == []


def test_t_without_recipients_is_wrong_usage(machine: Machine, kmqd: None) -> None:
    status, said = machine.sendmail("To: undisclosed-recipients:;\nSubject: x\n\ny\n", "-t")
    assert status == os.EX_USAGE and "neither the message nor the arguments name a recipient" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"Subject: x\n\na\rb\n", "a CR that ends no line"),
        (b"Subject: x\r\r\n\r\r\ny\r\r\n", "a CR that ends no line"),
        (b"Subject: x\n\na\0b\n", "a NUL"),
        (b"To: bob\nCc: @@@\n\nx\n", "Cc has an entry that is no address"),
        (b'To: "bob\n eve"@far.test\n\nx\n', "To has an entry that is no address"),
        (b"To: bob\nX: " + b"y" * 100_000 + b"\n\nx\n", "the header has more than 100000 bytes"),
        (b"From: a@b.test\nFrom: c@d.test\nTo: bob\n\nx\n", "there is more than one From"),
        (b"x" * 3_000_000, "a line of more than 1 MiB"),
        (b"To: bob@[300.1.1.1]\n\nx\n", "501 5.1.3"),
    ],
)
def test_the_message_is_at_fault(machine: Machine, kmqd: None, text: bytes, said: str) -> None:
    status, told = machine.sendmail(text, "-t")
    assert (status, "nothing was sent" in told) == (os.EX_DATAERR, True), told
    assert said in told
    assert machine.messages == []


def test_the_message_cannot_be_read(machine: Machine, kmqd: None) -> None:
    with open(machine.folder / "output", "wb") as output:
        assert machine.start("bob", stdin=output).wait(60) == os.EX_NOINPUT
    closed = machine.start("bob", command=["sh", "-c", 'exec "$0" "$@" <&-', *PROGRAM])
    assert b"the message cannot be read" in closed.communicate(None, 60)[1]
    assert closed.returncode == os.EX_NOINPUT
    assert machine.messages == []


def test_an_unknown_recipient_keeps_it_from_all(machine: Machine, kmqd: None) -> None:
    status, said = machine.sendmail("x\n", "bob", "nobody", "carol")
    assert status == os.EX_NOUSER
    assert said.startswith("kmq-sendmail: nobody: 550 5.1.1 ") and said.endswith("; nothing was sent\n")
    assert machine.messages == []


def test_kmqd_will_not_take_it(machine: Machine) -> None:
    with machine.opened(size_limit=2000):
        status, said = machine.sendmail("Subject: x\n\n" + "y\n" * 2000, "bob")
    assert status == os.EX_UNAVAILABLE and "552 5.3.4 Message too big; nothing was sent" in said
    assert machine.sendmail("x\n", "-bd")[0] == os.EX_UNAVAILABLE


def test_no_room_to_keep_it(machine: Machine, kmqd: None) -> None:
    status, said = machine.sendmail(b"x\n" * 3_000_000, "bob", env={"TMPDIR": "/proc/nowhere"})
    assert status == os.EX_CANTCREAT and "/proc/nowhere" in said
    assert machine.messages == []


def test_a_configuration_that_was_named_and_is_not_there(machine: Machine) -> None:
    status, said = machine.sendmail("x\n", "bob", env={"KMQ_CONF": "/nowhere/kmq.conf"})
    assert status == os.EX_CONFIG and "/nowhere/kmq.conf: there is no such file" in said


# --- kmqd comes, goes, and does not come ------------------------------------------------------------------------------


def test_kmqd_that_does_not_come_is_waited_for_ten_seconds(tmp_path: Path) -> None:
    """All at once: nobody there, a queue that is closed, a receiver that dies with the message in its hands."""
    absent, closed, dying = (_machine(tmp_path / name) for name in ("absent", "closed", "dying"))
    closed.door.refuses = Reply(451, "4.3.0", "Queue is not available, try again later")
    (absent.folder / "other.conf").write_text("[sendmail]\nsocket = elsewhere.sock\n[kmq]\nspool = elsewhere\n")
    began = time.monotonic()
    with closed.opened():
        programs = {
            "kmqd does not run": absent.start("bob"),
            "421 4.3.2 kmqd does not run": absent.start("-bs"),
            "kmqd does not run (nobody listens on ": absent.start("-bv", "bob"),
            "elsewhere.sock" if os.geteuid() == 0 else "submit.sock": absent.start("-C", "other.conf", "bob"),
            "451 4.3.0 Queue is not available": closed.start("bob"),
            "nobody listens on": dying.start("dying@far.test"),
        }
        for program in programs.values():
            _write(program, b"x\n")
        _die_with_the_message(dying)
        for said, program in programs.items():
            out, err = program.communicate(None, 60)
            assert program.returncode == os.EX_TEMPFAIL
            assert said in (out + err).decode(), said
            assert (b"it may have been sent all the same" in err) == (program.args[-1] == "dying@far.test")
            assert b"try again later" in out + err
    assert time.monotonic() - began > 9.5
    assert closed.messages == []


def _machine(folder: Path) -> Machine:
    folder.mkdir()
    return Machine(folder)


def _write(program: "subprocess.Popen[bytes]", text: bytes) -> None:
    """All of standard input."""
    assert program.stdin is not None
    program.stdin.write(text)
    program.stdin.close()
    program.stdin = None


def _die_with_the_message(machine: Machine) -> None:
    """A receiver that hears everything, goes before it has said 250, and has no successor."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(machine.path))
    listener.listen()
    connection, _ = listener.accept()
    listener.close()
    machine.path.unlink()
    connection.sendall(b"250 2.0.0 fine\r\n" * 4)
    heard = b""
    while not heard.endswith(b" LAST\r\nx\r\n"):
        heard += connection.recv(4096)
    connection.close()


def test_kmqd_that_comes_meanwhile_takes_it(machine: Machine) -> None:
    program = machine.start("bob")
    _write(program, b"x\n")
    until(lambda: _waits(program), "it has tried once")
    with machine.opened():
        assert program.wait(60) == 0
    assert len(machine.messages) == 1


def _waits(program: "subprocess.Popen[bytes]") -> bool:
    """It sleeps between two tries."""
    return "nanosleep" in Path(f"/proc/{program.pid}/wchan").read_text() or program.poll() is not None


def test_what_passes_is_tried_again(machine: Machine, kmqd: None) -> None:
    machine.door.refusal = Reply(452, "4.3.1", "Insufficient system storage")
    threading.Timer(0.3, lambda: setattr(machine.door, "refusal", None)).start()
    assert machine.sendmail("x\n", "bob") == (0, "")
    assert len(machine.messages) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_whoever_is_interrupted_while_he_writes_has_sent_nothing(machine: Machine, kmqd: None, number: int) -> None:
    program = machine.start("bob")
    assert program.stdin is not None
    program.stdin.write(b"Subject: half\n\nof a mess")
    program.stdin.flush()
    until(
        lambda: Path(f"/proc/{program.pid}/wchan").read_text().startswith(("pipe_read", "anon_pipe_read")), "it reads"
    )
    program.send_signal(number)
    assert program.wait(60) != 0
    assert machine.messages == []


# --- other ways to be called ------------------------------------------------------------------------------------------


def test_bs_joins_a_program_with_kmqd(machine: Machine, kmqd: None) -> None:
    text = b"EHLO x\nMAIL FROM:<a@far.test>\nRCPT TO:<bob>\nDATA\nSubject: typed\n\ny\n.\nQUIT\n"
    status, said = machine.sendmail(text, "-bs")
    codes = [line[:3] for line in said.splitlines() if line[3] == " "]
    assert (status, codes) == (0, ["220", "250", "250", "250", "354", "250", "221"])
    assert b"Subject: typed\r\n" in machine.messages[0].body


def test_bs_passes_on_whole_lines_as_they_are(machine: Machine, kmqd: None) -> None:
    """A client that says CRLF may send a chunk with any bytes in it; a bare LF there is its own fault."""
    text = b"EHLO x\r\nMAIL FROM:<a@far.test>\r\nRCPT TO:<bob>\r\nBDAT 4 LAST\r\nx\ny\nQUIT\r\n"
    _, said = machine.sendmail(text, "-bs")
    assert "550 5.5.2 Bare CR or LF" in said and machine.messages == []


def test_bs_that_ends_without_a_word_has_sent_what_was_answered(machine: Machine, kmqd: None) -> None:
    status, said = machine.sendmail("EHLO x\nMAIL FROM:<a>\nRCPT TO:<bob>\nDATA\nx\n.\n", "-bs")
    assert status == 0 and said.splitlines()[-1].endswith("accepted")
    assert len(machine.messages) == 1


def test_bv_says_what_would_become_of_mail(machine: Machine, kmqd: None) -> None:
    status, said = machine.sendmail("", "-bv", "Bob", "x@far.test", "everybody", "y@[192.0.2.1]")
    assert status == 0 and said.splitlines() == [
        "Bob: 2.1.5 <Bob@us.test> goes to us.test by boxes",
        "x@far.test: 2.1.5 <x@far.test> goes to smtp.isp.test:25 by isp",
        "everybody: 2.1.5 <everybody@us.test> is an alias",
        "y@[192.0.2.1]: 2.1.5 <y@[192.0.2.1]> waits: no connector serves it",
    ]
    status, said = machine.sendmail("", "-bv", "bob", "nobody")
    assert status == os.EX_NOUSER and "nobody: 5.1.1 " in said
    assert machine.messages == []


def test_bp_and_mailq_show_the_queue(machine: Machine) -> None:
    (machine.folder / "spool" / "queue").mkdir()
    assert "Mail queue is empty" in machine.sendmail("", "-bp")[1]
    as_mailq = "import sys; sys.argv[0] = '/usr/bin/mailq'; from kmq.cli.sendmail import main; sys.exit(main())"
    assert machine.sendmail("", command=[sys.executable, "-c", as_mailq])[1].startswith("Mail queue is empty\n")


def test_q_asks_kmqd(machine: Machine) -> None:
    for words in (["-q"], ["-q30m"], ["-qI69212ad0-0000a1f3"]):
        status, said = machine.sendmail("", *words)
        assert status != 0 and ("kmqd does not run" in said or "69212ad0-0000a1f3" in said), said


def test_bi_has_nothing_to_do(machine: Machine) -> None:
    assert machine.sendmail("", "-bi")[0] == machine.sendmail("", "-I")[0] == 0
