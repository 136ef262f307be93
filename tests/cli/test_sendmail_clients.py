"""Programs that we did not write send mail by kmq-sendmail: a test for each that is there."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from tests.cli.programs import PROGRAM, Machine


def needs(program: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(program), reason=f"needs {program} (Debian: {package})")


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """With a program called `sendmail` in its folder."""
    made = Machine(tmp_path)
    sendmail = tmp_path / "sendmail"
    sendmail.write_text(f'#!/bin/sh\nexec {" ".join(PROGRAM)} "$@"\n')
    sendmail.chmod(sendmail.stat().st_mode | stat.S_IXUSR)
    with made.opened():
        yield made


def run(machine: Machine, command: list[str], text: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    surroundings = {"PATH": os.environ["PATH"], "KMQ_CONF": str(machine.folder / "kmq.conf"), "LC_ALL": "C.UTF-8"}
    surroundings |= {"HOME": str(machine.folder), "PYTHONPATH": ":".join(filter(None, sys.path)), **environment}
    return subprocess.run(
        command, input=text, cwd=machine.folder, env=surroundings, capture_output=True, text=True, timeout=60
    )


def sent(machine: Machine) -> tuple[list[str], EmailMessage]:
    """Recipients and message of the only one."""
    (message,) = machine.messages
    return [one.address for one in message.head.recipients], message_from_bytes(
        message.body.replace(b"\r\n", b"\n"), policy=policy.default
    )


@needs("s-nail", "s-nail")
def test_s_nail(machine: Machine) -> None:
    command = ["s-nail", "-:/", "-S", f"mta={machine.folder}/sendmail", "-s", "From s-nail"]
    done = run(machine, [*command, "-b", "secret@us.test", "bob@us.test"], "Grüße\n.\nend\n", USER="alice")
    assert done.returncode == 0, done.stderr
    to, message = sent(machine)
    assert sorted(to) == ["bob@us.test", "secret@us.test"]
    assert message["Subject"] == "From s-nail" and message["Bcc"] is None
    assert message.get_content() == "Grüße\n.\nend\n"


@needs("mutt", "mutt")
def test_mutt(machine: Machine) -> None:
    settings = f'set sendmail="{machine.folder}/sendmail -oem -oi"; set from=alice@us.test; set copy=no'
    command = ["mutt", "-F", "/dev/null", "-e", settings, "-s", "From mutt", "-b", "secret@us.test", "--"]
    done = run(machine, [*command, "bob@us.test"], "Grüße\n.\nend\n")
    assert done.returncode == 0, done.stderr
    to, message = sent(machine)
    assert sorted(to) == ["bob@us.test", "secret@us.test"]
    assert message["Subject"] == "From mutt" and message["Bcc"] is None
    assert message.get_content().rstrip("\n") == "Grüße\n.\nend"
    refused = run(machine, [*command, "nobody@us.test"], "x\n")
    assert refused.returncode != 0 and len(machine.messages) == 1


@needs("php", "php-cli")
def test_php_mail(machine: Machine) -> None:
    """With line ends as PHP mixes them, and a sender; a recipient whom nobody knows makes mail() return false."""
    script = (
        '$more = "From: web@us.test\\r\\nBcc: secret@us.test\\r\\nContent-Type: text/plain; charset=utf-8";'
        'var_dump(mail("bob@us.test, carol@us.test", "From PHP", "Grüße\\n.\\r\\nend", $more, "-fweb@us.test"));'
        'var_dump(mail("nobody@us.test", "x", "y"));'
    )
    done = run(machine, ["php", "-n", "-d", f"sendmail_path={machine.folder}/sendmail -t -i", "-r", script])
    assert done.stdout.split() == ["bool(true)", "bool(false)"], done.stderr
    to, message = sent(machine)
    assert to == ["bob@us.test", "carol@us.test", "secret@us.test"]
    assert machine.messages[0].head.sender == "web@us.test" and message["Bcc"] is None
    assert message.get_content() == "Grüße\n.\nend\n"


def has_git_send_email() -> bool:
    found = subprocess.run(["git", "send-email", "--dump-aliases"], capture_output=True, text=True)
    return found.returncode == 0


@pytest.mark.skipif(not has_git_send_email(), reason="needs git send-email (Debian: git-email, libmailtools-perl)")
def test_git_send_email(machine: Machine) -> None:
    def git(*words: str) -> "subprocess.CompletedProcess[str]":
        who = ["-c", "user.name=A. Author", "-c", "user.email=alice@us.test"]
        return run(machine, ["git", "-C", str(machine.folder / "repository"), *who, *words])

    (machine.folder / "repository").mkdir()
    git("init", "-q")
    (machine.folder / "repository" / "file").write_text("first\n")
    git("add", "file")
    git("commit", "-qm", "A change", "-m", "Grüße.")
    sending = ["send-email", "--confirm=never", f"--smtp-server={machine.folder}/sendmail", "--root", "HEAD"]
    done = git(*sending, "--to=bob@us.test", "--cc=carol@far.test")
    assert done.returncode == 0, done.stderr + done.stdout
    to, message = sent(machine)
    assert to == ["bob@us.test", "carol@far.test", "alice@us.test"]
    assert message["Subject"] == "[PATCH] A change"
    assert "+first\n" in message.get_content()


def test_cron(machine: Machine) -> None:
    """The way of Debian's cron, which no test may start: `sendmail -i -FCronDaemon -B8BITMIME -oem USER`."""
    text = "From: root (Cron Daemon)\nTo: bob\nSubject: Cron <root@here> job\nMIME-Version: 1.0\n\nGrüße\n.\n"
    command = [str(machine.folder / "sendmail"), "-i", "-FCronDaemon", "-B8BITMIME", "-oem", "bob"]
    done = run(machine, command, text)
    assert done.returncode == 0, done.stderr
    to, _ = sent(machine)
    assert to == ["bob@us.test"]
    assert "\r\n\r\nGrüße\r\n.\r\n".encode() in machine.messages[0].body
    assert b"From: root@us.test (Cron Daemon)\r\n" in machine.messages[0].body


def test_python_as_smtp_over_a_pipe(machine: Machine) -> None:
    """-bs, as programs speak that know SMTP and have no net: command by command, waiting for each reply."""
    program = machine.start("-bs")
    assert program.stdin is not None and program.stdout is not None

    def say(line: bytes) -> bytes:
        program.stdin.write(line + b"\r\n")
        program.stdin.flush()
        return hear()

    def hear() -> bytes:
        while (line := program.stdout.readline())[3:4] == b"-":
            pass
        return line[:3]

    assert hear() == b"220"
    lines = (b"EHLO here", b"MAIL FROM:<alice>", b"RCPT TO:<bob>", b"DATA", b"Subject: x\r\n\r\n..\r\n.", b"QUIT")
    assert [say(line) for line in lines] == [b"250", b"250", b"250", b"354", b"250", b"221"]
    assert program.wait(60) == 0
    assert machine.messages[0].body.endswith(b"\r\n\r\n.\r\n")
