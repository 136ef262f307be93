"""Delivery to a command: what it is told, what its end means, and what it cannot do to us."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from kmq.config.sections import ConnectorSection
from kmq.model.reply import Reply
from kmq.phases.pipe import Pipe, argv, environment
from kmq.phases.program import Ended
from kmq.phases.sysexits import STATUS, as_reply
from kmq.phases.work import Outcome
from tests.phases.mailboxes import ID, TEXT, TRACE, local, locally, work
from tests.phases.sending import LOOPS, kinds, results, until
from tests.waiting import until as sync_until

#: Writes down everything that it was given.
NOTE = """
import json, os, sys
told = {"argv": sys.argv[2:], "env": dict(os.environ), "cwd": os.getcwd(), "text": sys.stdin.read()}
with open(sys.argv[1], "a") as file:
    file.write(json.dumps(told) + "\\n")
"""


def python(code: str, *words: str, **options: Any) -> ConnectorSection:
    return local("pipe", command=(sys.executable, "-c", code, *words), **options)


def noting(path: Path, *words: str, **options: Any) -> ConnectorSection:
    return python(NOTE, str(path), *words, **options)


def noted(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- what it is told --------------------------------------------------------------------------------------------------


def test_a_command_gets_the_message_and_is_told_whom_it_is_for(tmp_path: Path) -> None:
    words = ("-d", "{user}", "to={recipient}", "{user}@{domain}+{extension}", "{id}", "-f", "{sender}")
    (found,) = locally(noting(tmp_path / "noted", *words), work("Alice+Lists@here.test"))
    assert results(found) == {0: ("Delivered", f"250 2.0.0 delivered to {Path(sys.executable).name}")}
    (one,) = noted(tmp_path / "noted")
    address = "Alice+Lists@here.test"
    assert one["argv"] == ["-d", "alice", f"to={address}", "alice@here.test+Lists", ID, "-f", "sender@kmq.test"]
    assert one["text"] == (TRACE % ((address.encode(),) * 2)).decode() + TEXT.decode().replace("\r\n", "\n")
    assert one["cwd"] == "/"
    expected = {"USER": "alice", "EXTENSION": "Lists", "DOMAIN": "here.test", "RECIPIENT": address, "ID": ID}
    expected |= {"SENDER": "sender@kmq.test", "LOGNAME": "alice", "HOME": "/", "SHELL": "/bin/sh", "LANG": "C.UTF-8"}
    assert {name: one["env"].get(name) for name in expected} == expected
    assert not set(one["env"]) - {*expected, "PATH", "LC_CTYPE"}, "nothing of kmqd's own environment"


def test_a_command_is_run_for_each_recipient_or_for_all(tmp_path: Path) -> None:
    one = work("alice@here.test", "bob@here.test", "carol@here.test")
    locally(noting(tmp_path / "each", "{user}"), one)
    assert sorted(told["argv"] for told in noted(tmp_path / "each")) == [["alice"], ["bob"], ["carol"]]
    (found,) = locally(noting(tmp_path / "all", "-t", "{recipient}", "-s", recipients="all"), one)
    assert kinds(found) == "DDD"
    (told,) = noted(tmp_path / "all")
    assert told["argv"] == ["-t", "alice@here.test", "bob@here.test", "carol@here.test", "-s"]
    assert told["text"].count("Delivered-To: ") == 3
    assert "USER" not in told["env"] or not told["env"]["USER"]


def test_who_is_nobody_is_left_out(tmp_path: Path) -> None:
    connector = noting(tmp_path / "noted", "{recipient}", users=("alice",), recipients="all")
    (found,) = locally(connector, work("alice@here.test", "bob@here.test", '"../x"@here.test'))
    assert kinds(found) == "DFF"
    assert noted(tmp_path / "noted")[0]["argv"] == ["alice@here.test"]
    assert kinds(locally(connector, work("bob@here.test"))[0]) == "F"


def test_the_folder_and_the_from_line_are_as_configured(tmp_path: Path) -> None:
    connector = noting(tmp_path / "noted", directory=str(tmp_path), from_line=True)
    locally(connector, work("alice@here.test", sender=""))
    (one,) = noted(tmp_path / "noted")
    assert one["cwd"] == str(tmp_path)
    assert re.match(r"From MAILER-DAEMON \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\nReturn-Path: <>\n", one["text"])


def test_a_large_message_comes_whole(tmp_path: Path) -> None:
    text = b"Subject: x\r\n\r\n" + b"a line of text\r\n" * 60_000
    (found,) = locally(noting(tmp_path / "noted"), work("alice@here.test", text=text, file=tmp_path / "x.eml"))
    assert kinds(found) == "D"
    assert noted(tmp_path / "noted")[0]["text"].endswith("Subject: x\n\n" + "a line of text\n" * 60_000)


# --- what a sender cannot do ------------------------------------------------------------------------------------------


def test_no_shell_reads_an_address(tmp_path: Path) -> None:
    evil = f'"$(touch {tmp_path}/owned);`touch {tmp_path}/owned`|touch {tmp_path}/owned"@x.test'
    locally(noting(tmp_path / "noted", "{sender}"), work("alice@here.test", sender=evil))
    (one,) = noted(tmp_path / "noted")
    assert one["argv"] == [evil], "one word, whatever stands in it"
    assert re.fullmatch(r"[\w!@%=+:,./ -]*", one["env"]["SENDER"])
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("sender", ["-oQ/tmp@x.test", "--exec=sh@x.test"])
def test_an_address_never_becomes_an_option(tmp_path: Path, sender: str) -> None:
    (found,) = locally(noting(tmp_path / "noted", "{sender}"), work("alice@here.test", sender=sender))
    assert results(found)[0][1].startswith("553 5.1.3 the address begins with a hyphen")
    (found,) = locally(noting(tmp_path / "noted", "-f{sender}"), work("alice@here.test", sender=sender))
    assert noted(tmp_path / "noted")[0]["argv"] == [f"-f{sender}"], "here it is an option's value"
    assert kinds(found) == "D"


def test_words_of_an_address_are_not_filled_in_again() -> None:
    values = dict.fromkeys(("user", "domain", "extension", "recipient", "id"), "x") | {"sender": "{user}@{domain}"}
    assert argv(("/bin/x", "{sender}", "{sender}{sender}"), values, []) == [
        "/bin/x",
        "{user}@{domain}",
        "{user}@{domain}" * 2,
    ]
    assert isinstance(argv(("/bin/x", "{sender}"), values | {"sender": "a\0b"}, []), Reply)
    assert isinstance(argv(("/bin/x", "{sender}"), values | {"sender": "a\nb"}, []), Reply)
    assert environment(values | {"sender": "() { :;}; echo\x1b[31m"})["SENDER"] == "__ _ :___ echo__31m"


# --- what its end means -----------------------------------------------------------------------------------------------

ENDS = [
    ("sys.exit(0)", "D", "250 2.0.0 delivered to"),
    ("sys.exit(75)", "d", "451 4.3.0 {}: temporary failure"),
    ("sys.exit(67)", "F", "550 5.1.1 {}: user unknown"),
    ("sys.exit(77)", "F", "550 5.7.0 {}: permission denied"),
    ("sys.exit(65)", "F", "550 5.6.0 {}: data format error"),
    ("sys.exit(78)", "d", "451 4.3.5 {}: configuration error"),
    ("sys.exit(69)", "d", "451 4.3.0 {}: service unavailable"),
    ("sys.exit(1)", "d", "451 4.3.0 {} exited with status 1"),
    ("sys.exit(127)", "d", "451 4.3.0 {} exited with status 127"),
    ("os.kill(os.getpid(), 9)", "d", "451 4.3.0 {} died of signal 9"),
    ("print('5.7.1 no', 'spam'); sys.exit(77)", "F", "550 5.7.1 {}: permission denied: no spam"),
    ("print('4.7.1 later'); sys.exit(77)", "F", "550 5.7.0 {}: permission denied: 4.7.1 later"),
    ("sys.stderr.write('over\\nthere\\x1b[31m'); sys.exit(75)", "d", "{}: temporary failure: over there\\x1b[31m"),
    ("print('saved as 7')", "D", "250 2.0.0 delivered to {}: saved as 7"),
    ("os.close(0); sys.exit(0)", "D", "250 2.0.0"),
    ("print('x' * 1000000); sys.exit(75)", "d", "temporary failure: " + "x" * 400),
]


@pytest.mark.parametrize(("code", "kind", "said"), ENDS)
def test_how_a_command_ends_is_what_becomes_of_the_mail(code: str, kind: str, said: str) -> None:
    (found,) = locally(python("import os, sys; " + code), work("alice@here.test", text=TEXT + b"x" * 200_000))
    assert kinds(found) == kind
    reply = results(found)[0][1]
    assert said.format(Path(sys.executable).name) in reply
    assert reply.isprintable()
    assert len(reply) < 600


def test_the_table_has_all_of_sysexits() -> None:
    assert sorted(STATUS) == [0, *range(64, 79)]
    for status, (code, enhanced, _) in STATUS.items():
        assert str(code)[0] == enhanced[0]
        assert as_reply(Ended(status, b""), "x").code == code


@pytest.mark.parametrize("command", ["/no/such/program", "/etc/passwd", "/"])
def test_a_command_that_cannot_be_run_keeps_the_mail(command: str) -> None:
    (found,) = locally(local("pipe", command=(command,)), work("alice@here.test"))
    assert results(found)[0][1].startswith(f"451 4.3.5 {command} cannot be run: ")


def test_a_folder_that_is_not_there_keeps_the_mail(tmp_path: Path) -> None:
    (found,) = locally(python("", directory=str(tmp_path / "none")), work("alice@here.test"))
    assert results(found)[0][1].startswith("451 4.3.5")


# --- limits -----------------------------------------------------------------------------------------------------------


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


#: Heeds no SIGTERM, and has begun another that does not either.
STUBBORN = """
trap "" TERM
sleep 600 &
echo "$$ $!" >"$1.new"
mv "$1.new" "$1"
echo so far
wait
"""


def stubborn(pids: Path, **options: Any) -> ConnectorSection:
    return local("pipe", command=("/bin/sh", "-c", STUBBORN, "sh", str(pids)), **options)


def _all_gone(pids: Path) -> bool:
    return not any(_alive(int(pid)) for pid in pids.read_text().split())


def test_what_takes_too_long_is_ended_with_all_that_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmq.phases.program.FAREWELL", 0.1)
    (found,) = locally(stubborn(tmp_path / "pids", time_limit=3.0), work("alice@here.test"), patience=60)
    said = results(found)[0][1]
    assert re.fullmatch(r"451 4.3.0 sh was ended: it took longer than time_limit: so far", said)
    sync_until(lambda: _all_gone(tmp_path / "pids"), "both are gone")


def test_what_it_leaves_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    code = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); open(sys.argv[1], 'w').write(str(p.pid))"
    (found,) = locally(python(code, str(tmp_path / "pid")), work("alice@here.test"))
    assert kinds(found) == "D"
    pid = int((tmp_path / "pid").read_text())
    assert _alive(pid), "it may go on"
    os.kill(pid, 9)


def test_no_more_run_at_once_than_there_may_be_and_one_for_a_user(tmp_path: Path) -> None:
    code = """
import os, sys, time
mine = os.path.join(sys.argv[1], sys.argv[2] + "-" + str(os.getpid()))
open(mine, "w").close()
there = os.listdir(sys.argv[1])
time.sleep(0.02)
os.unlink(mine)
twice = len([one for one in there if one.startswith(sys.argv[2] + "-")]) > 1
sys.exit(64 + len(there) if len(there) > 3 or twice else 0)
"""
    (tmp_path / "running").mkdir()
    connector = python(code, str(tmp_path / "running"), "{user}", commands=3)
    works = [work("alice@here.test", f"u{n % 5}@here.test", id=f"69212ad0-{n:08x}") for n in range(10)]
    assert {kinds(one) for one in locally(connector, *works, patience=60)} == {"DD"}


def test_a_stop_of_kmq_ends_what_runs_and_reports_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmq.phases.program.FAREWELL", 0.1)

    async def play() -> None:
        phase = Pipe({"local": stubborn(tmp_path / "pids", commands=1)})
        found: list[Outcome] = []
        for n in range(5):
            phase.deliver(work(f"u{n}@here.test", id=f"69212ad0-{n:08x}"), found.append, lambda *_: None)
        await until(lambda: (tmp_path / "pids").exists(), "it runs", 60)
        await phase.close(0.05)
        await until(lambda: len(found) == 5, "everybody is told", 60)
        assert {results(one)[0] for one in found} == {("Deferred", "421 4.3.2 kmq is stopping")}

    LOOPS["uvloop"](play())
    sync_until(lambda: _all_gone(tmp_path / "pids"), "both are gone")


def test_a_damaged_body_is_given_to_no_command(tmp_path: Path) -> None:
    text = b"x" * 300_000 + b"\r\n"
    one = work("alice@here.test", text=text, file=tmp_path / "x.eml")
    (tmp_path / "x.eml").write_bytes(text.replace(b"xx", b"xy", 1))
    (found,) = locally(noting(tmp_path / "noted"), one)
    assert "checksum" in found.damaged
    assert not (tmp_path / "noted").exists()


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    one = work("alice@here.test", "bob@here.test")
    locally(python("import sys; sys.exit(75)"), one)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        locally(python("import sys; sys.exit(75)"), one)
        locally(local("pipe", command=("/no/such/program",)), one)
    assert len(os.listdir("/proc/self/fd")) == before


def test_another_loop_carries_it_too(tmp_path: Path) -> None:
    async def play() -> None:
        phase = Pipe({"local": noting(tmp_path / "noted")})
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        shown: list[str] = []
        phase.deliver(work("alice@here.test"), future.set_result, lambda server, _: shown.append(server))
        assert kinds(await future) == "D"
        assert shown == [Path(sys.executable).name]
        await phase.close(1)

    asyncio.run(play())
