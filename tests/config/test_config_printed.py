"""The configuration printed: what counts, the manual, and the file for /etc."""

import re
from pathlib import Path

import pytest

from kmq.config import EMBEDDED, Settings, changes, load, read, restart_needed, show
from kmq.config.page import manual
from kmq.config.sections import KINDS, OPTIONS, SINGLE
from tests.config.test_config_reading import WHOLE


def test_what_is_shown_is_a_configuration_with_the_same_settings() -> None:
    odd = "[kmq]\nspool = /a/$$b\nlocal_domains = a.example\n  b.example\n"
    for text in (WHOLE, EMBEDDED, odd):
        found = read(text, "kmq.conf", "/etc/kmq", "mx1.example.org")
        again = read(show(found), "kmq.conf", "/elsewhere", "other.example")
        assert (again.kmq, again.queue) == (found.kmq, found.queue)
        assert (again.receivers, again.connectors) == (found.receivers, found.connectors)
        assert again.retries == found.retries


def test_every_option_is_shown_with_its_place() -> None:
    lines = show(read(WHOLE, "kmq.conf", "/etc/kmq", "mx1.example.org")).splitlines()
    shown = {line.split(";")[0].strip(): line.split("; ")[1] for line in lines if " = " in line}
    assert shown["retry_interval = 10m"].startswith("kmq.conf:10")
    assert shown["per_hop = 20"] == "default"
    found = read(WHOLE, "kmq.conf", "/etc/kmq")
    count = dict.fromkeys(SINGLE, 1) | {"receiver": len(found.receivers), "connector": len(found.connectors)}
    assert sum(" = " in line for line in lines) == sum(len(OPTIONS[kind]) * count.get(kind, 0) for kind in KINDS)


def test_the_manual_page_is_the_one_that_is_printed(tree: Path) -> None:
    assert (tree / "man" / "kmq.conf.5").read_text() == manual(), "print it anew: kmq config --man > man/kmq.conf.5"


def test_the_manual_names_every_option_with_its_default() -> None:
    lines = manual().splitlines()
    for options in OPTIONS.values():
        for option in options.values():
            assert any(line.startswith(rf"\fB{option.name}\fR =") for line in lines), option.name
            assert option.doc.endswith("."), f"{option.name}: a sentence ends in a full stop"


def test_a_hyphen_of_the_manual_can_be_copied() -> None:
    """A bare `-` is printed as a typographical hyphen, which no program takes for an option or a name."""
    text = [line for line in manual().splitlines() if not line.startswith(".")]
    assert [line for line in text if re.search(r"(?<!\\)-", line)] == []


def test_the_file_for_etc_says_what_is_embedded_but_for_spool_and_sockets(tree: Path) -> None:
    installed = load(str(tree / "etc" / "kmq.conf"))
    tried = read(EMBEDDED.replace("spool = spool", "spool = kmq\nrun_directory = /run/kmq"), "kmq.conf", "/var/spool")
    assert (installed.kmq, installed.queue) == (tried.kmq, tried.queue)
    assert (installed.receivers, installed.connectors) == (tried.receivers, tried.connectors)


def _settings(text: str) -> Settings:
    return read("[kmq]\nspool = /s\n" + text, "kmq.conf", "/etc/kmq", "mx1.example.org")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("", "", []),
        ("", "[queue]\nper_hop = 5\n", []),
        ("", "workers = 5\n", []),
        ("", "[queue]\ndurability = files\nper_hop = 5\n", ["[queue] durability"]),
        ("", "[queue]\ndurability = files\n", ["[queue] durability"]),
        ("", "[a : receiver]\nlisten = 127.0.0.1:1\n", []),
        ("[a : receiver]\nlisten = 127.0.0.1:1\n", "[a : receiver]\nlisten = 127.0.0.1:1\nsize_limit = 1M\n", []),
    ],
)
def test_a_reload_is_told_what_needs_a_restart(old: str, new: str, named: list[str]) -> None:
    assert restart_needed(_settings(old), _settings(new)) == named


def test_what_changed_is_named_also_what_came_and_what_went() -> None:
    one, other = "[a : receiver]\nlisten = 127.0.0.1:1\n", "[b : receiver]\nlisten = 127.0.0.1:1\n"
    assert changes(_settings(one), _settings(one)) == []
    assert changes(_settings(one), _settings(one + "size_limit = 1M\n")) == ["[a] size_limit"]
    came_and_went = changes(_settings(one), _settings(other))
    assert sorted(came_and_went) == ["[a] (no such section any more)", "[b] (new section)"]
