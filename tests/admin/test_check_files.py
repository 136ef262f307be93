"""What `kmq check` says, to root, of files that kmqd's user cannot open."""

import grp
import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.admin.check_files import files
from kmq.admin.verdict import Grade
from kmq.config import read
from tests.debian_clamd import ground

NOBODY = 65534
PASSWORD = "password_file = {0}/password\n"
WAY = "type = smarthost\naddress_spaces = *\nhosts = a.test:587\ntls = must\nauth_user = me\n" + PASSWORD
CONFIGURATION = f"""\
[kmq]
spool = {{0}}/spool
local_domains = here.test
alias_files = {{0}}/aliases
[mailboxes : connector]
type = mailbox
maildir = {{0}}/mail/{{{{user}}}}
users = file:{{0}}/users
[isp : connector]
{WAY}[second : isp]
[sorted : connector]
type = pipe
address_spaces = here.test
command = {{0}}/sort {{{{user}}}}
users = *
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to see what another user may")
    with ground() as made:
        for name in ("aliases", "users", "password", "sort"):
            (made / name).write_text("")
            (made / name).chmod(0o755 if name == "sort" else 0o644)
        (made / "spool").mkdir()
        os.chown(made / "spool", NOBODY, NOBODY)
        yield made


def told(folder: Path) -> list[str]:
    found = list(files(read(CONFIGURATION.format(folder), "kmq.conf", str(folder), "mx.here.test")))
    assert all(one.grade is Grade.WRONG for one in found)
    return [f"{one.what} -> {one.remedy}" for one in found]


def test_what_everybody_may_open_is_in_order(folder: Path) -> None:
    assert told(folder) == []


@pytest.mark.parametrize(
    ("name", "line", "option"),
    [
        ("aliases", 4, "[kmq] alias_files"),
        ("users", 8, "[mailboxes] users"),
        ("password", 15, "[isp] password_file"),
        ("sort", 20, "[sorted] command"),
    ],
)
def test_what_root_alone_may_open_is_told_once(folder: Path, name: str, line: int, option: str) -> None:
    path = folder / name
    path.chmod(0o700)
    (text,) = told(folder)
    user = pwd.getpwuid(NOBODY)
    verb, right = ("run", "x") if name == "sort" else ("read", "r")
    assert text.startswith(
        f"kmq.conf:{line}: {option}: {path} cannot be {verb} by {user.pw_name}, who kmqd runs as -> "
    )
    assert f"chgrp {grp.getgrgid(user.pw_gid).gr_name} {path} && chmod g+{right} {path}" in text
    os.chown(path, 0, user.pw_gid)
    path.chmod(0o750)
    assert told(folder) == []


def test_a_folder_on_the_way_counts(folder: Path) -> None:
    folder.chmod(0o700)
    assert len(told(folder)) == 4


def test_of_what_is_missing_others_tell(folder: Path) -> None:
    (folder / "password").unlink()
    assert told(folder) == []
