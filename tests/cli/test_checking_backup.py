"""kmq check, and where mail is archived: what is well is said, what is not comes with what to do."""

import os
import pwd
from pathlib import Path

import pytest

from kmq.spool import ageing
from tests.cli.conftest import Place


def check(place: Place, section: str) -> list[str]:
    """What is said of archiving; a remedy on its line."""
    place.path.write_text(place.path.read_text().partition("\n[backup]")[0] + f"\n[backup]\n{section}\n")
    _, out, err = place.run("check")
    lines: list[str] = []
    for line in (out + err).splitlines():
        if line.startswith(" "):
            lines[-1] += f" | {line.strip()}"
        else:
            lines.append(line)
    return [line for line in lines if "[backup]" in line]


def test_nothing_is_said_where_nothing_is_archived(place: Place) -> None:
    assert check(place, "period = week") == []


def test_an_address_alone_archives_nothing(place: Place) -> None:
    (line,) = check(place, "address = archive@example.org")
    assert line.startswith("note") and "but no mail is archived | say which: local, incoming" in line


def test_classes_and_places_are_named(place: Place) -> None:
    (line,) = check(place, "incoming = yes\nrelayed = yes\naddress = archive@example.org")
    assert line.startswith("OK") and "incoming, relayed mail is archived in" in line
    assert line.endswith(f"{place.spool}/backup and archive@example.org")


@pytest.mark.parametrize(("policy", "told"), [("wait", "mail waits"), ("go_on", "mail goes on unarchived")])
def test_a_folder_that_is_away(place: Place, policy: str, told: str) -> None:
    _, line = check(place, f"incoming = yes\nfolder = {place.path.parent}/away\nbackup_failure = {policy}")
    assert line.startswith("WRONG") and f"No such file or directory: {told} | make it, or mount it" in line


def test_a_folder_into_which_everybody_may_look(place: Place) -> None:
    folder = place.path.parent / "archive"
    folder.mkdir(0o755)
    folder.chmod(0o755)
    _, line = check(place, f"incoming = yes\nfolder = {folder}")
    assert line.startswith("note") and f"everybody may look into it | chmod o= {folder}" in line


@pytest.mark.root
def test_a_folder_that_kmqd_s_user_may_not_write(place: Place) -> None:
    folder = place.path.parent / "archive"
    folder.mkdir(0o700)
    user = pwd.getpwnam("nobody")
    os.chown(place.spool, user.pw_uid, user.pw_gid)
    _, line = check(place, f"incoming = yes\nfolder = {folder}")
    assert line.startswith("WRONG") and f"nobody, who kmqd runs as, may not write there | chown nobody {folder}" in line
    os.chown(folder, user.pw_uid, user.pw_gid)
    assert len(check(place, f"incoming = yes\nfolder = {folder}")) == 1


def test_a_folder_that_is_not_compressed_when_it_should_be(place: Place) -> None:
    lay(place.spool / "backup" / "2026-11-01")
    _, line = check(place, "incoming = yes")
    assert line.startswith("note") and "2026-11-01 should be compressed by now | see the log" in line
    assert len(check(place, "incoming = yes\ncompress_at =")) == 1
    ageing.compress(str(place.spool / "backup"), "2026-11-01", lambda: False)
    assert len(check(place, "incoming = yes")) == 1


def lay(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder.parent).chmod(0o700)
    (folder / "69212ad0-00000001.eml").write_bytes(b"x")
    (folder / "69212ad0-00000001.env").write_bytes(b"x")
