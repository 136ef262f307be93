"""An operator and a real kmqd: what was listed is what is done, copies come back, groups have their rights, and two
operators at once, or one that talks nonsense, harm nobody."""

import json
import os
import random
import re
import smtplib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path

import pytest

from kmq.admin import client
from kmq.cli.kmq import main
from kmq.model.envelope import Recipient, fold
from tests.admin.test_rights import OPERATORS, VIEWERS, as_member, hear, questions
from tests.torture.kmqd import Kmqd
from tests.waiting import free_port, until

DROPS = """\
[pickup]
directory =

[replay]
messages_per_minute = 20000
scan_interval = 300ms"""

LETTER = "Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <x@x.test>\r\nX-Sender: own\r\n\r\nHi.\r\n"


@pytest.fixture(scope="module")
def kmqd() -> Iterator[Kmqd]:
    """All mail waits for a server that is down."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        groups = f"operators_group = {OPERATORS}\nviewers_group = {VIEWERS}"
        one = Kmqd(folder / "k", hops={"far.test": free_port()}, workers=1, drops=DROPS, kmq=groups)
        one.start()
        yield one
        one.close()


@pytest.fixture(autouse=True)
def emptied(kmqd: Kmqd) -> Iterator[None]:
    yield
    kmq(kmqd, "remove", "--all", "--yes")
    until(lambda: not kmqd.queued(), "nothing is left for the next test")


def begin(kmqd: Kmqd, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-P", "-m", "kmq.cli.kmq", "-c", str(kmqd.folder / "kmq.conf"), *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, text=True, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)


def kmq(kmqd: Kmqd, *words: str) -> tuple[int, str, str]:
    """One call: exit status, output, errors."""
    program = begin(kmqd, *words)
    out, err = program.communicate(timeout=60)
    return program.returncode, out, err


def send(kmqd: Kmqd, count: int, sender: str = "eve@x.test", to: str = "bob@far.test") -> None:
    with smtplib.SMTP("127.0.0.1", kmqd.port, timeout=60) as server:
        for number in range(count):
            server.sendmail(sender, [to], f"Subject: {number}\r\n\r\nHello.\r\n")


def ids(kmqd: Kmqd) -> list[str]:
    return kmq(kmqd, "mailq", "--ids")[1].split()


def test_what_was_listed_is_what_is_done_while_mail_moves(kmqd: Kmqd, tmp_path: Path) -> None:
    wish = ["--filter", "FromAddress -eq 'eve@x.test'"]
    send(kmqd, 30)
    send(kmqd, 5, "ada@x.test")
    until(lambda: len(ids(kmqd)) == 35, "all of it is seen")
    more = threading.Thread(target=send, args=(kmqd, 60))
    more.start()
    status, out, _ = kmq(kmqd, "--json", "remove", *wish, "--what-if")
    listed = [json.loads(line)["Identity"].rpartition("\\")[2] for line in out.splitlines()]
    assert status == 0
    assert len(listed) >= 30
    (tmp_path / "list").write_text(out)
    kmq(kmqd, "retry", "--queue", "*")
    status, out, err = kmq(kmqd, "--json", "remove", "--ids-from", str(tmp_path / "list"), "--yes", "--reason", "spam")
    more.join()
    assert (status, len(out.splitlines())) == (0, len(listed)), err
    answers = [json.loads(line) for line in out.splitlines()]
    done = {one["ID"].rpartition("\\")[2] for one in answers if one["Result"] in ("removed", "pending")}
    # What was in the Submission queue when it was listed may have moved on: its part there is gone, and it is left.
    assert done | {one["ID"].rpartition("\\")[2] for one in answers if one["Result"] == "gone"} == set(listed)
    until(lambda: len(ids(kmqd)) == 95 - len(done), "exactly those are gone")
    assert not done & set(ids(kmqd))
    told = set(re.findall(r" removed (\S+) by=\"uid \d+\" reason=spam", kmqd.log))
    assert told == done
    assert re.search(rf"operator verb=remove .*count={len(listed)} done=\d+ .*reason=spam", kmqd.log)


def test_a_copy_goes_once_more_when_the_original_is_gone(kmqd: Kmqd, tmp_path: Path) -> None:
    options = ["ENVID=QQ314159", "RET=HDRS"]
    with smtplib.SMTP("127.0.0.1", kmqd.port, timeout=60) as server:
        server.sendmail("eve@x.test", ["bob@far.test"], LETTER, options, ["NOTIFY=SUCCESS,DELAY"])
    until(lambda: len(kmqd.queued()) == 1, "its files are there")
    [name] = ids(kmqd)
    body = kmqd.queued()[0].with_suffix(".eml").read_bytes()
    assert kmq(kmqd, "export", name, "--to", str(tmp_path))[0] == 1, "it is not held"
    assert os.listdir(tmp_path) == []
    until(lambda: "suspended" in kmq(kmqd, "suspend", name)[1], "it is held")
    until(lambda: kmq(kmqd, "export", name, "--to", str(tmp_path))[0] == 0, "nobody has it in hand any more")
    until(lambda: f" export {name} by=" in kmqd.log, "who wanted a copy is written down")
    copy = tmp_path / f"{name}.eml"
    assert copy.read_bytes().endswith(b"\r\n" + body)
    (kmqd.spool / "replay" / "new").write_bytes(copy.read_bytes())
    (kmqd.spool / "replay" / "new").rename(kmqd.spool / "replay" / "again.eml")
    bad = kmqd.spool / "replay" / "again.bad"
    until(bad.exists, "it is not taken beside its original")
    assert f"still waits here for bob@far.test: kmq remove {name} first" in Path(f"{bad}.reason").read_text()
    for verb in ("retry", "suspend", "remove"):
        assert kmq(kmqd, verb, f"Submission\\{name}")[1].endswith("gone: it does not wait in this queue\n"), verb
    assert ids(kmqd) == [name]
    assert kmq(kmqd, "remove", name)[0] == 0
    bad.rename(kmqd.spool / "replay" / "again.eml")
    until(lambda: [one for one in kmqd.queued() if name not in one.name], "it is taken")
    [again] = [one for one in kmqd.queued() if name not in one.name]
    envelope = fold(again.read_bytes())
    assert envelope is not None
    head = envelope[0]
    assert (head.sender, head.ret, head.envid) == ("eve@x.test", "HDRS", "QQ314159")
    assert head.recipients == [Recipient("bob@far.test", "SUCCESS,DELAY")]
    assert again.with_suffix(".eml").read_bytes().endswith(body)


def test_two_operators_at_once(kmqd: Kmqd) -> None:
    """Each hears one answer about each message; none is left half done."""
    send(kmqd, 40)
    until(lambda: len(ids(kmqd)) == 40, "all of it is seen")
    verbs = ("suspend", "resume", "retry", "resubmit", "suspend", "remove")
    programs = [begin(kmqd, "--json", verb, "--all", "--yes") for verb in verbs]
    for verb, program in zip(verbs, programs, strict=True):
        out, err = program.communicate(timeout=60)
        answers = [json.loads(line) for line in out.splitlines()]
        assert program.returncode in (0, 1), (verb, err)
        assert len({one["ID"] for one in answers}) == len(answers)
        assert all(one["Result"] in ("pending", "gone", "skipped") or one["Result"].endswith("ed") for one in answers)
    until(lambda: not kmqd.queued(), "who removed them has had his way")
    assert kmqd.accidents() == []


@pytest.mark.root
def test_groups_have_their_rights(kmqd: Kmqd) -> None:
    send(kmqd, 1)
    assert as_member([VIEWERS], kmqd.run, "queues")[0] == 0
    status, said = as_member([VIEWERS], kmqd.run, "flush")
    assert status == 1
    assert said.startswith("uid 65534 may look, not flush")
    assert as_member([OPERATORS], kmqd.run, "flush")[0] == 0
    status, said = as_member([], kmqd.run, "queues")
    assert status == 1
    assert said.startswith("uid 65534 may not ask kmqd")
    until(lambda: 'who may not by="uid 65534" what=flush' in kmqd.log, "the log tells of it")


def by_member(kmqd: Kmqd, groups: list[int], *words: str) -> tuple[int, str]:
    """One call by user 65534, a member of these groups, who may not read the spool: exit status, what he sees."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            os.setgroups(groups)
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            sys.stdin = open(os.devnull)  # noqa: SIM115
            sys.stdout = sys.stderr = open(writing, "w", closefd=False)  # noqa: SIM115
            status = main(["-c", str(kmqd.folder / "kmq.conf"), *words])
            sys.stdout.flush()
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading) as seen:
        text = seen.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text


@pytest.mark.root
def test_members_of_groups_do_what_they_may_without_a_look_at_the_files(kmqd: Kmqd) -> None:
    send(kmqd, 3)
    until(lambda: len(kmqd.queued()) == 3, "their files are there")
    queue = f"127.0.0.1:{kmqd.hops['far.test']}"
    names = [path.stem for path in kmqd.queued()]
    for words in (["queues"], ["mailq"], ["remove", "--all", "--what-if"], ["suspend", "--queue", "x"]):
        main(["-c", str(kmqd.folder / "kmq.conf"), *words])  # imports what he might not find: Python may be root's
    import_module("kmq.cli.afar")
    for groups in ([VIEWERS], [OPERATORS]):
        status, seen = by_member(kmqd, groups, "queues")
        assert status == 0, seen
        assert queue in seen
        status, seen = by_member(kmqd, groups, "mailq")
        assert status == 0, seen
        assert seen.count("bob@far.test") == 3
    assert by_member(kmqd, [VIEWERS], "remove", "--filter", "Size -gt 1", "--yes")[0] == 1
    assert by_member(kmqd, [VIEWERS], "suspend", names[0])[0] == 1
    assert by_member(kmqd, [VIEWERS], "remove", "--all", "--yes")[0] == 1
    assert len(kmqd.queued()) == 3
    assert by_member(kmqd, [OPERATORS], "suspend", "--queue", queue) == (0, "1 queue suspended\n")
    assert by_member(kmqd, [OPERATORS], "resume", "--queue", queue)[0] == 0
    assert by_member(kmqd, [OPERATORS], "remove", f"{queue}\\{names[0]}")[0] == 0
    status, seen = by_member(kmqd, [OPERATORS], "remove", "--queue", queue)
    assert status == 2
    assert f"this would remove all that waits in {queue}: say --yes" in seen
    assert by_member(kmqd, [OPERATORS], "remove", "--queue", "nowhere", "--yes")[0] == 1
    assert by_member(kmqd, [OPERATORS], "remove", "--queue", queue, "--yes")[0] == 0
    until(lambda: not kmqd.queued(), "they are gone")
    assert by_member(kmqd, [OPERATORS], "resubmit", "--all", "--yes")[0] == 1, "there is nothing any more"


def test_nonsense_harms_nobody(kmqd: Kmqd) -> None:
    send(kmqd, 3)
    for said in islice(questions(random.Random(7)), 250):
        with client.connected(kmqd.run / client.SOCKET) as one:
            one.sendall(said)
            one.shutdown(1)
            for answer in hear(one):
                assert "mistake" not in answer.text, said
    assert client.ask(kmqd.run, "start-intake").status == 0
    send(kmqd, 1)
    assert kmqd.accidents() == []
    assert kmqd.alive
