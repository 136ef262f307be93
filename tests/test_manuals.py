"""Every manual page is one that man(1) reads without complaint, and every program has one."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[1]
PAGES = sorted((TREE / "man").glob("*.[1-8]"))


@pytest.mark.skipif(not shutil.which("groff"), reason="needs groff (Debian: groff)")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_reads_without_complaint(page):
    kind = "-mdoc" if ".Dd " in page.read_text() else "-man"
    read = subprocess.run(["groff", kind, "-ww", "-Tutf8", "-z", page], capture_output=True, text=True)
    assert read.stderr == ""


def test_every_program_has_a_page():
    settings = configparser.ConfigParser()
    settings.read(TREE / "setup.cfg")
    programs = [line.split()[0] for line in settings["options.entry_points"]["console_scripts"].strip().splitlines()]
    text = {page.name.rpartition(".")[0]: page.read_text() for page in PAGES}
    missing = [name for name in programs if not any(name in page for page in text.values())]
    assert not missing
