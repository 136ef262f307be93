"""`kmq config diff` of a queue at rest: what is not routed yet, and who may not look."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.cli.conftest import Place
from tests.mailbag import Mailbag

_ISP = "address_spaces = *\nhosts = smtp.isp.example:587"


def other(place: Place, old: str, new: str) -> Path:
    """A file that differs from the configuration in this."""
    text = place.path.read_text()
    assert text.count(old) == 1
    path = place.path.with_name("new.conf")
    path.write_text(text.replace(old, new))
    return path


def foreseen(place: Place, path: Path) -> dict[str, tuple[str, str]]:
    """Address -> what changes and the new next hop."""
    status, out, err = place.run("--json", "config", "diff", str(path))
    assert status == 0, err
    found = [one for one in map(json.loads, out.splitlines()) if "ID" in one]
    return {address: (one["Change"], one["NewNextHop"]) for one in found for address in one["Recipients"]}


def test_what_is_not_routed_yet_changes_when_it_would_be_routed_otherwise(place: Place) -> None:
    place.bag.lay(to=("a@far.example", "b@near.example", "alice@example.org"))
    assert foreseen(place, other(place, "listen = 127.0.0.1:2525", "listen = 127.0.0.1:2526")) == {}
    assert foreseen(place, other(place, _ISP, _ISP.replace("*", "far.example"))) == {
        "b@near.example": ("becomes unreachable", "Unreachable;Unreachable Domain;")
    }
    moved = foreseen(place, other(place, _ISP, _ISP.replace("587", "588")))
    hop = "SmartHostConnectorDelivery;smtp.isp.example:588;isp"
    assert moved == dict.fromkeys(("a@far.example", "b@near.example"), ("goes elsewhere", hop))


@pytest.fixture
def elsewhere(capsys: pytest.CaptureFixture[str]) -> Iterator[Place]:
    """A place that everybody may go to: other runs of the tests close pytest's own folders."""
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        made = Place(Path(folder) / "kmq.conf", Mailbag(Path(folder) / "spool"), capsys)
        made.configure()
        yield made


@pytest.mark.root
@pytest.mark.parametrize("words", [("config", "diff", "kmq.conf"), ("fsck",)])
def test_who_may_not_look_is_told_so(elsewhere: Place, words: tuple[str, ...]) -> None:
    elsewhere.bag.lay()
    spool = elsewhere.spool
    (spool / "state").mkdir(exist_ok=True)
    for file in ("state/connectors", "FORMAT"):
        (spool / file).touch()
    for closed in ("state", "FORMAT", "queue"):
        (spool / closed).chmod(0o600)
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command = [*as_nobody, sys.executable, "-m", "kmq.cli.kmq", "-c", str(elsewhere.path), *words]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=elsewhere.path.parent)
    assert (told.returncode, told.stdout) == (78, "") and "Traceback" not in told.stderr, told
    assert "this user may not read it; ask as root" in told.stderr
