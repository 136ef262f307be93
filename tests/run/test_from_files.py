"""Heads and bodies out of a message's files, however long they are and whatever lies in their place."""

import os
from pathlib import Path

import pytest

from kmq.run import from_files


@pytest.mark.parametrize(
    "length", [0, 1, from_files.HEAD - 1, from_files.HEAD, from_files.HEAD + 1, 16 * from_files.HEAD]
)
def test_a_head_ends_with_its_line(tmp_path: Path, length: int) -> None:
    path = tmp_path / "one.env"
    for behind in (b"", b"\n", b"\n{}\n" * 9, b"\r\n"):
        path.write_bytes(b"x" * length + behind)
        assert from_files.first_line(str(path)) == b"x" * length


def test_a_body_is_read_no_further_than_it_may_be(tmp_path: Path) -> None:
    path = tmp_path / "one.eml"
    path.write_bytes(b"0123456789")
    assert from_files.beginning(str(path), 4) == b"0123"
    assert from_files.beginning(str(path), 11) == b"0123456789"
    path.write_bytes(b"")
    assert from_files.beginning(str(path), 11) == b""


def test_nothing_is_read_through_a_link_and_nobody_waits_for_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret\n")
    (tmp_path / "link").symlink_to("secret")
    with pytest.raises(OSError, match="symbolic link"):
        from_files.first_line(str(tmp_path / "link"))
    os.mkfifo(tmp_path / "pipe")
    assert from_files.first_line(str(tmp_path / "pipe")) == b""
    with pytest.raises(FileNotFoundError):
        from_files.beginning(str(tmp_path / "gone"), 1)
