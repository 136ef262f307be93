"""Connectors that lead to programs, files, nowhere and no: their values, and every mistake with its line."""

import os
import re
import time
from pathlib import Path

import pytest

from kmq.config import Settings
from kmq.config.reading import read
from kmq.config.way_out import drop_directory
from kmq.errors import ConfigError

KMQ = "[kmq]\nspool = /srv/kmq\n"
FAX = "[fax : connector]\ntype = agent\naddress_spaces = fax\ncommand = /bin/fax\n"
GATE = "[gate : connector]\ntype = foreign\naddress_spaces = x400\n"
NO = "[no : connector]\ntype = error\naddress_spaces = no.test\n"
HOLE = "[hole : connector]\ntype = discard\naddress_spaces = *\n"


def settings(text: str) -> Settings:
    return read(text, "kmq.conf", "/etc/kmq", "mx")


def test_what_is_written_counts() -> None:
    found = settings(
        KMQ
        + FAX.replace("/bin/fax", "/bin/fax --to 'two words' $${x}")
        + "processes = 2\nin_flight = 5\nanswer_timeout = 90s\n"
        + GATE
        + "drop_mode = 0660\ndrop_quota = 10M\ndrop_quota_files = 50\n"
        + NO
        + "reply = 450 4.2.1 not now\n"
        + HOLE
    )
    fax, gate, no, hole = found.connectors
    assert fax.command == ("/bin/fax", "--to", "two words", "${x}")
    assert (fax.processes, fax.in_flight, fax.answer_timeout) == (2, 5, 90.0)
    assert (gate.drop_mode, gate.drop_quota, gate.drop_quota_files) == (0o660, 10 << 20, 50)
    assert drop_directory(gate, found.kmq.spool) == "/srv/kmq/drop/gate"
    assert str(no.reply) == "450 4.2.1 not now"
    assert hole.address_spaces == ("*",)


def test_a_relative_directory_counts_from_the_configuration() -> None:
    found = settings(KMQ + GATE + "drop_directory = gate\n")
    assert drop_directory(found.connectors[0], found.kmq.spool) == "/etc/kmq/gate"


MISTAKES = [
    (FAX.replace("command = /bin/fax\n", ""), 1, r"command is missing: write command = /usr/lib/kmq/fax-agent"),
    (FAX.replace("address_spaces = fax\n", ""), 1, r"address_spaces is missing: write address_spaces = fax, \*\.fax"),
    (HOLE.replace("address_spaces = *\n", ""), 1, r"address_spaces is missing"),
    (FAX.replace("/bin/fax", "fax -x"), 4, r"has no absolute path: no shell looks for the program"),
    (FAX.replace("/bin/fax", "/bin/fax 'x"), 4, r"a word with blanks stands between two quotes"),
    (FAX.replace("/bin/fax", "/bin/fax" + " x" * 100), 4, r"101 words are too many: at most 100"),
    (FAX + "processes = 0\n", 5, r"processes: 0 is too little: at least 1"),
    (FAX + "connections = 5\n", 5, r"connections is for servers: write processes"),
    (FAX + "in_flight = many\n", 5, r"'many' is no whole number"),
    (FAX + "answer_timeout = 2d\n", 5, r"2d is too much: at most 1d"),
    (FAX + "hosts = mx.test\n", 5, r"hosts is for type = smarthost"),
    (FAX + "maildir = /var/mail/{user}\n", 5, r"maildir is for type = mailbox"),
    (GATE + "command = /bin/fax\n", 4, r"command is for type = agent"),
    (GATE + "processes = 2\n", 4, r"processes is for type = agent; this one is type = foreign"),
    (GATE + "reply = 450 4.2.1 no\n", 4, r"reply is for type = error; this one is type = foreign"),
    (FAX + "drop_quota = 1M\n", 5, r"drop_quota is for type = foreign; this one is type = agent"),
    (GATE + "drop_mode = rw\n", 4, r"'rw' is no mode of a file: write three digits"),
    (GATE + "drop_mode = 440\n", 4, r"takes the file from kmqd itself"),
    (GATE + "drop_mode = 666\n", 4, r"lets a file be run, or everybody write it"),
    (GATE + "drop_mode = 755\n", 4, r"lets a file be run, or everybody write it"),
    (GATE + "drop_quota = much\n", 4, r"'much' is no size"),
    (KMQ + GATE + "drop_directory = /srv\n", 6, r"/srv has the spool in it: name a directory beside it"),
    (KMQ + GATE + "drop_directory = /srv/kmq/queue\n", 6, r"is in the spool, where such files go into a folder right"),
    (KMQ + GATE + "drop_directory = /srv/kmq/drop/a/b\n", 6, r"right below /srv/kmq/drop"),
    (KMQ + GATE + GATE.replace("[gate", "[b") + "drop_directory = /srv/kmq/drop/gate\n", 9, r"of \[gate\] already"),
    (NO + "reply = no\n", 4, r"'no' is no refusal: write code, enhanced code and words"),
    (NO + "reply = 250 2.0.0 fine\n", 4, r"is no refusal"),
    (NO + "reply = 550 no\n", 4, r"is no refusal"),
    (NO + "reply = 550 4.1.1 no\n", 4, r"is no refusal"),
    (NO + "reply = 550 5.1.1 " + "x" * 500 + "\n", 4, r"one line of at most 400 characters"),
]


@pytest.mark.parametrize(("text", "line", "says"), MISTAKES, ids=lambda one: one if isinstance(one, int) else "")
def test_every_mistake_is_told_with_its_line(text: str, line: int, says: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        settings(text)
    told = str(wrong.value)
    assert f"kmq.conf:{line}: " in told, told
    assert re.search(says, told), told


def test_what_kmq_doctor_sees(tmp_path: Path) -> None:
    """A gateway that takes nothing."""
    from kmq.admin.doctor_ways import gateways

    gate = tmp_path / "spool/drop/gate"
    gate.mkdir(parents=True)
    found = settings(f"[kmq]\nspool = {tmp_path}/spool\n{GATE}")
    (gate / "a.eml").touch()
    assert list(gateways(found)) == []
    (gate / "b.eml").touch()
    os.utime(gate / "b.eml", (0, time.time() - 7300))
    (verdict,) = gateways(found)
    assert verdict.what == f"[gate] 2 files wait for the gateway in {gate}, the oldest for 2 h"


def test_what_kmq_check_sees(tmp_path: Path) -> None:
    """Programs and folders are looked at, whose kmqd cannot refuse to start."""
    from kmq.admin.check_ways import ways
    from kmq.admin.verdict import Grade

    tool, gate, spool = tmp_path / "fax", tmp_path / "gate", tmp_path / "spool"
    text = f"[kmq]\nspool = {spool}\n{FAX.replace('/bin/fax', str(tool))}{GATE}drop_directory = {gate}\n"
    found = settings(text + GATE.replace("[gate", "[own"))

    def said() -> list[tuple[Grade, str]]:
        return [(verdict.grade, verdict.what.rpartition(": ")[2]) for verdict in ways(found)]

    assert said()[:2] == [(Grade.WRONG, "No such file or directory"), (Grade.WRONG, "it is missing")]
    assert said()[2] == (Grade.GOOD, "kmqd makes it")
    tool.write_text("#!/bin/sh\n")
    gate.symlink_to(tmp_path)
    assert said()[:2] == [(Grade.WRONG, "it cannot be run"), (Grade.WRONG, "it is a link, or no directory")]
    tool.chmod(0o757)
    gate.unlink()
    gate.mkdir()
    gate.chmod(0o755)
    assert said()[:2] == [
        (Grade.WRONG, "everybody may change it, and it runs as kmqd"),
        (Grade.NOTE, "everybody sees what waits there"),
    ]
    tool.chmod(0o755)
    gate.chmod(0o2770)
    assert {grade for grade, _ in said()} == {Grade.GOOD}
