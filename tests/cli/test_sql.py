"""`kmq sql`: any statement looks, and none does more; whatever SQL makes is told; Ctrl-C ends what has no end."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kmq.model.event import Deferred, Routed
from tests.cli.conftest import Place
from tests.waiting import until

ISP = "SmartHostConnectorDelivery;smtp.isp.example:587;isp"
GREY = Deferred(
    rcpt="0", attempt=1, reply="451 \x1b[31mgrey", host="mx[192.0.2.3]:25", until="2099-11-22T06:05:00.000Z"
)

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM message",
        "UPDATE share SET held = 1",
        "CREATE TABLE t (a)",
        "CREATE TEMP TABLE t (a)",
        "ATTACH 'other.db' AS o",
        "VACUUM INTO 'copy.db'",
        "PRAGMA query_only = OFF",
        "PRAGMA table_info(message)",
        "SELECT * FROM pragma_database_list",
        "SELECT load_extension('x.so')",
        "SELECT writefile('x', 'y')",
        "BEGIN",
        "SELECT 1; DELETE FROM message",
        "SELECT \udcff",
        "SELECT 'a\0b'",
        "SELECT length(zeroblob(900000000))",
        "SELECT",
        "(" * 5000,
    ],
)
def test_what_does_more_than_look_is_refused(
    place: Place, statement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place.bag.lay()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    status, out, err = place.run("sql", statement)
    assert (status, out) == (2, "")
    assert err.startswith("kmq: ")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_any_value_is_told(place: Place) -> None:
    place.bag.lay(Routed(rcpt="0", hop=ISP), GREY)
    values = "x'00ff1b' AS bytes, cast(x'ff1b' AS TEXT) AS broken, 9e999 AS much, NULL AS none"
    asked = f"SELECT {values}, LastError FROM messages"
    status, out, _ = place.run("--json", "sql", asked)
    assert status == 0
    assert json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON")) == {
        "bytes": "x'00ff1b'",
        "broken": "\\xff\x1b",
        "much": "inf",
        "none": None,
        "LastError": "451 \x1b[31mgrey (mx[192.0.2.3]:25)",
    }
    for words in (("sql", asked), ("--json", "sql", asked)):
        assert "\x1b" not in place.run(*words)[1], "nothing reaches the terminal's ear"


@pytest.mark.parametrize(
    "words",
    [("sql", ENDLESS), ("mailq", "--filter", "Subject -match '(a|a|.)*(.|.)*(.|a)*\\d'")],
    ids=["a statement", "an expression"],
)
def test_ctrl_c_ends_what_has_no_end(place: Place, words: tuple[str, ...]) -> None:
    place.bag.lay(body=b"Subject: " + b"a" * 300 + b"\r\n\r\n")
    program = [sys.executable, "-P", "-m", "kmq.cli.kmq", "-c", str(place.path), *words]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        until(lambda: _works(running.pid), "the program works")
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (130, b"", b"")


def _works(pid: int) -> bool:
    """It has used more processor time than any start needs."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(ticks[11]) > 200
