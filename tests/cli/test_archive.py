"""kmq archive: what is archived is listed, found by a filter, and copied so that Replay takes it, compressed or not."""

import json
import tarfile
from pathlib import Path

import pytest

from kmq.model.event import Passed
from kmq.spool import ageing
from tests.cli.conftest import Place

PASSED = Passed(phase="Backup", step="backup", by="backup", verdict="archived")


@pytest.fixture
def place(place: Place) -> Place:
    place.path.write_text(place.path.read_text() + "\n[backup]\nincoming = yes\n")
    return place


def lay(place: Place, day: str, *to: str, body: bytes = b"Subject: hello\r\n\r\nGood day.\r\n", **more: str) -> str:
    created = f"{day}T05:50:11.000Z"
    return place.bag.lay(
        PASSED, to=to or ("bob@example.net",), home=f"backup/{day}", body=body, created=created, **more
    )


def compress(place: Place, day: str) -> Path:
    root = place.spool / "backup"
    assert ageing.compress(str(root), day, lambda: False) is not None
    return root / f"{day}.tar.gz"


def listed(place: Place, *words: str) -> list[tuple[str, str]]:
    status, out, _ = place.run("archive", "list", *words, "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert status == (0 if found else 1)
    return [(one["Id"], one["Place"]) for one in found]


def test_folders_and_compressed_files_are_one_list_oldest_first(place: Place) -> None:
    young = lay(place, "2026-11-22")
    old, other = lay(place, "2026-11-20"), lay(place, "2026-11-20")
    compress(place, "2026-11-20")
    late = lay(place, "2026-11-20")
    assert listed(place) == [
        (late, "2026-11-20"),
        (old, "2026-11-20.tar.gz"),
        (other, "2026-11-20.tar.gz"),
        (young, "2026-11-22"),
    ]
    status, out, _ = place.run("archive", "list", "--limit", "3")
    assert status == 0 and "4 messages in" in out and "1 of them not shown" in out and "hello" in out


def test_one_that_lies_in_both_is_told_once(place: Place) -> None:
    """A run was cut when the file was whole and its folder not yet gone."""
    name = lay(place, "2026-11-20")
    folder = place.spool / "backup" / "2026-11-20"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    compress(place, "2026-11-20")
    folder.mkdir()
    for file, text in before.items():
        (folder / file).write_bytes(text)
    assert listed(place) == [(name, "2026-11-20")]


@pytest.mark.parametrize("compressed", [False, True])
def test_it_is_found_by_what_it_says(place: Place, compressed: bool) -> None:
    mine = lay(place, "2026-11-20", "carl@example.org", "dave@example.org", body=b"Subject: the offer\r\n\r\nx\r\n")
    other = lay(place, "2026-11-20")
    third = lay(place, "2026-11-21")
    if compressed:
        compress(place, "2026-11-20")

    def found(*words: str) -> list[str]:
        return [name for name, _ in listed(place, *words)]

    assert found("--filter", "Subject -like '*offer*'") == [mine]
    assert found("--filter", "Recipients -eq dave@example.org -and RecipientCount -eq 2") == [mine]
    assert found("--since", "2026-11-21") == [third] and found("--until", "2026-11-21") == [mine, other]
    assert found(other, third) == [other, third]
    assert found("--filter", "FromAddress -eq nobody@x") == []
    assert place.run("archive", "list", "--filter", "Colour -eq red")[0] == 2


@pytest.mark.parametrize("compressed", [False, True])
def test_a_copy_is_one_that_replay_takes(place: Place, tmp_path: Path, compressed: bool) -> None:
    name = lay(place, "2026-11-20", "carl@example.org", "dave@example.org", sender="ann@example.net")
    lay(place, "2026-11-20")
    if compressed:
        compress(place, "2026-11-20")
    (tmp_path / "out").mkdir()
    status, out, err = place.run("archive", "export", name, "--to", str(tmp_path / "out"))
    assert (status, out) == (0, f"{name}\n"), err
    text = (tmp_path / "out" / f"{name}.eml").read_bytes()
    block, _, body = text.partition(b"X-EndOfInjectedXHeaders:")
    assert b"X-Sender: <ann@example.net>" in block and f"X-kmq-Original: {name}".encode() in block
    assert [line for line in block.splitlines() if line.startswith(b"X-Receiver")] == [
        b"X-Receiver: <carl@example.org>",
        b"X-Receiver: <dave@example.org>",
    ]
    assert body.endswith(b"\r\nSubject: hello\r\n\r\nGood day.\r\n")
    status, _, err = place.run("archive", "export", name, "--to", str(tmp_path / "out"))
    assert status == 1 and f"{name}.eml is there already" in err


def test_a_body_that_is_not_what_was_accepted_is_not_copied(place: Place, tmp_path: Path) -> None:
    bad, good = lay(place, "2026-11-20"), lay(place, "2026-11-20")
    (place.spool / "backup" / "2026-11-20" / f"{bad}.eml").write_bytes(b"Subject: forged\r\n\r\n")
    (tmp_path / "out").mkdir()
    status, out, err = place.run("archive", "export", "--since", "2026-11-20", "--to", str(tmp_path / "out"))
    assert (status, out) == (1, f"{good}\n") and f"{bad}: its body is not what was accepted" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{good}.eml"]


def test_what_is_damaged_is_told_and_the_rest_is_shown(place: Place) -> None:
    bad, good = lay(place, "2026-11-20"), lay(place, "2026-11-20")
    (place.spool / "backup" / "2026-11-20" / f"{bad}.env").write_bytes(b"no envelope")
    lay(place, "2026-11-21")
    file = compress(place, "2026-11-21")
    file.write_bytes(file.read_bytes()[:100])
    status, out, err = place.run("archive", "list")
    assert status == 0 and good in out
    assert f"{bad}.env is damaged" in err and "2026-11-21.tar.gz cannot be read to its end" in err


def test_a_member_of_another_name_is_passed_over(place: Place, tmp_path: Path) -> None:
    file = place.spool / "backup" / "2026-11-20.tar.gz"
    file.parent.mkdir()
    (tmp_path / "x").write_bytes(b"x")
    with tarfile.open(file, "w:gz") as tar:
        for name in ("../../etc/passwd", "2026-11-20/x.eml", "/69212ad0-00000001.env"):
            tar.add(tmp_path / "x", name)
    assert listed(place) == []


def test_without_an_archive_it_says_why_there_is_none(place: Place) -> None:
    (place.spool / "backup").mkdir()
    assert "nothing that matches is archived" in place.run("archive", "list")[2]
    place.configure()
    assert "archiving is off" in place.run("archive", "list")[2]
    place.path.write_text(place.path.read_text() + "\n[backup]\nfolder =\n")
    status, _, err = place.run("archive", "list")
    assert status != 0 and "[backup] folder is empty" in err
    assert place.run("archive", "export")[0] == 2
