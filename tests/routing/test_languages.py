"""In which language somebody is told: by his address, by what his message asks for (RFC 3282), else the default."""

import os
from pathlib import Path

import pytest

from kmq.config.address_maps import AddressMap, MapLine
from kmq.config.sections import NoticesSection
from kmq.routing.languages import Languages

LINES = (
    MapLine("@example.de", "de"),
    MapLine("ana@example.de", "es"),
    MapLine("@*.example.de", "fr"),
    MapLine("postmaster@", "en"),
)


def languages(*lines: MapLine, file: Path | None = None, language: str = "en", by_header: bool = True) -> Languages:
    files = (str(file),) if file else ()
    return Languages(
        NoticesSection(language=language, languages=AddressMap(lines, files), language_by_header=by_header)
    )


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("bob@example.de", "de"),
        ("ana@example.de", "es"),
        ("Ana+lists@example.de", "es"),
        ("bob@branch.example.de", "fr"),
        ("postmaster@example.de", "en"),
        ("postmaster@far.test", "en"),
        ("bob@far.test", "es"),
        ("bob@пример.test", "es"),
        ("nonsense", "es"),
        ("", "es"),
    ],
)
def test_the_most_precise_pattern_counts(address: str, code: str) -> None:
    assert languages(*LINES, language="es").of(address) == code


@pytest.mark.parametrize(
    ("field", "code"),
    [
        (b"Accept-Language: de", "de"),
        (b"accept-language: de-AT, en;q=0.5", "de"),
        (b"Accept-Language: en;q=0.5, fr;q=0.9, es;q=0.8", "fr"),
        (b"Accept-Language: pt-BR, es;q=0.7, en;q=0.3", "es"),
        (b"Accept-Language: de;q=0, es", "es"),
        (b"Accept-Language: pt,\r\n\tFR", "fr"),
        (b"Content-Language: de", "de"),
        (b"Content-Language: x-klingon, es (Castilian)", "es"),
        (b"Content-Language: de\r\nAccept-Language: fr", "fr"),
        (b"Content-Language: de\r\nAccept-Language: pt", "de"),
        (b"Accept-Language: *", "en"),
        (b"Accept-Language: deutsch", "en"),
        (b"Accept-Language:", "en"),
        (b"X-Accept-Language: de", "en"),
        (b"Subject: Accept-Language: de", "en"),
        (b"Accept-Language: \xff\x00, ;;, de;q=9, -, fr", "fr"),
        (b"Accept-Language: " + b"pt," * 19 + b"de", "de"),
        (b"Accept-Language: " + b"pt," * 20 + b"de", "en"),
        (b"Accept-Language: " + b"(" * 5000 + b"de" + b")" * 5000, "en"),
    ],
)
def test_a_message_says_what_its_sender_reads(field: bytes, code: str) -> None:
    text = b"Received: from a\r\n\tby b\r\n%b\r\nSubject: x\r\n\r\nAccept-Language: es\r\n" % field
    assert languages().of("s@x.test", text) == code
    assert languages(MapLine("@x.test", "es")).of("s@x.test", text) == "es", "the administrator knows better"
    assert languages(by_header=False, language="fr").of("s@x.test", text) == "fr"


def test_what_stands_below_the_header_is_nobody_s_wish() -> None:
    assert languages().of("s@x.test", b"Subject: x\r\n\r\nAccept-Language: de\r\n") == "en"
    assert languages().of("s@x.test", b"Accept-Language: de") == "de", "a header without an end"


def test_a_file_is_read_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kmq.routing.watched.LOOKS", 0.0)
    path = tmp_path / "languages"
    found = languages(MapLine("@here.test", "de"), file=path)
    assert (found.of("a@far.test"), found.of("a@here.test")) == ("en", "de"), "a file that is missing decides nothing"
    written(path, "# who speaks what\n@far.test fr\n@here.test es\n")
    assert (found.of("a@far.test"), found.of("a@here.test")) == ("fr", "de"), "what stands in the configuration first"
    written(path, "@far.test it\n")
    assert found.of("a@far.test") == "fr", "a mistake leaves it as it was"
    written(path, "@far.test es\n")
    assert found.of("a@far.test") == "es"


def written(path: Path, text: str) -> None:
    """Long enough ago that nobody is still writing."""
    path.write_text(text)
    long_ago = path.stat().st_mtime - 60 - len(text)
    os.utime(path, (long_ago, long_ago))
