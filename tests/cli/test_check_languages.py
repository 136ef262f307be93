"""[notices] as an operator sees it: `kmq check` looks at the files of languages."""

import pytest

from kmq.spool.disk import Disk
from kmq.spool.layout import prepare
from tests.cli.conftest import Place
from tests.waiting import free_port


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        (b"# home\n@example.org de\nana@example.org es\n", 0, "OK     languages of 2 addresses in {path}\n"),
        (b"@example.org de\n", 0, "OK     languages of 1 address in {path}\n"),
        (None, 78, "[notices] languages: {path}: No such file or directory\n       make it, readable for kmqd's user"),
        (b"\n@example.org it\n", 78, "{path}: line 2: 'it' is not one of en, de, es, fr\n"),
        (b"@example.org\n", 78, "{path}: line 1: '@example.org' is no pattern and language: write user@example.org"),
        (b"\xff", 78, "[notices] languages: {path}: line 1: byte 0xff is not UTF-8"),
    ],
)
def test_check_looks_at_the_file_of_languages(place: Place, content: bytes | None, status: int, told: str) -> None:
    prepare(Disk(place.spool))
    place.configure(port=free_port())
    place.path.write_text(place.path.read_text() + "\n[notices]\nlanguages = file:languages\n")
    path = place.path.parent / "languages"
    if content is not None:
        path.write_bytes(content)
    found, out, _ = place.run("check")
    assert told.format(path=path) in out
    assert found == status
