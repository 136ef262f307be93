"""`kmq poison`: what is set aside and why; one of its phases run again, where it can harm nobody."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kmq.admin import poison_trial
from kmq.model.event import Crashed, Moved
from tests.cli.conftest import Place

MOVED = Moved(home="poison", reason="2 workers failed on it alone in phase Executing: it died by itself")
CRASHED = Crashed(phase="Executing", count=2, trace="Fatal Python error: Aborted")
BODY = b"Subject: caf\xc3\xa9\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n.caf\xc3\xa9\r\n"


def laid(place: Place, *more: str) -> str:
    to = ("bob@example.net", *more)
    return place.bag.lay(CRASHED, MOVED, home="poison", to=to, body=BODY, eight_bit=True, dots=True)


def everything(spool: Path) -> dict[str, tuple[int, int]]:
    """All files of the spool, and what they are."""
    found = (path for path in spool.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


@pytest.fixture
def evil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """What happens to whoever looks at the message."""

    def does(deed: Callable[[], object]) -> None:
        monkeypatch.setattr(poison_trial, "categorize", lambda *_: deed())

    return does


def verdicts(place: Place, *words: str) -> tuple[int, list[dict[str, object]]]:
    status, out, err = place.run("--json", "poison", "test", *words)
    assert err == ""
    return status, [json.loads(line) for line in out.splitlines()]


def test_what_is_set_aside_is_listed_with_its_reason(place: Place) -> None:
    name = laid(place)
    place.bag.lay(to=("queued@example.net",))
    (place.spool / "poison" / "69212ad0-000000ff.env").write_bytes(b"garbage\n")
    status, out, _ = place.run("poison", "list")
    assert status == 0
    assert name in out and "2 workers failed on it alone" in out and "Executing" in out
    assert "the first line of the envelope is damaged" in out
    _, out, _ = place.run("--json", "poison", "list")
    first, second = map(json.loads, out.splitlines())
    assert (first["ID"], first["CrashCount"], first["Phase"]) == (name, 2, "Executing")
    assert second["ID"] == "69212ad0-000000ff"


def test_nothing_is_set_aside(place: Place) -> None:
    assert place.run("poison", "list") == (0, "Nothing is set aside in poison/\n", "")


def test_a_message_that_does_no_harm_passes_every_phase(place: Place) -> None:
    name = laid(place, "alice@example.org")
    before = everything(place.spool)
    for phase in ("executing", "backup", "content", "antivirus", "local", "smtp", "terminating"):
        status, (told,) = verdicts(place, name, "--phase", phase)
        assert (status, told["Result"], told["NotConfined"]) == (0, "passed", []), told
    assert everything(place.spool) == before
    _, (told,) = verdicts(place, name, "--phase", "SMTP delivery")
    assert [line for line in told["Said"] if "without 8BITMIME" in line and "bytes would be sent" in line], told
    _, (told,) = verdicts(place, name, "--phase", "local")
    assert told["Said"] == ["a copy for alice"] and not (place.spool.parent / "mail").exists()


def test_without_a_phase_it_is_the_one_that_crashed(place: Place) -> None:
    name = laid(place)
    _, told = verdicts(place, name)
    assert [one["Phase"] for one in told] == ["Executing"]
    other = place.bag.lay(MOVED, home="poison", to=("bob@example.net",))
    _, told = verdicts(place, other)
    assert len(told) == 7, "nobody knows which: all"


def test_a_signal_is_told_with_the_place(place: Place, evil: Callable[..., None]) -> None:
    name = laid(place)
    evil(os.abort)
    status, (told,) = verdicts(place, name)
    assert (status, told["Result"], told["Cause"]) == (1, "crashed", "SIGABRT")
    assert "poison_trial.py" in told["Trace"] and "_executing" in told["Trace"]
    status, out, _ = place.run("poison", "test", name)
    assert status == 1 and "crashed: SIGABRT" in out and f"kmq export {name}" in out


def test_an_exception_is_told_with_its_traceback(place: Place, evil: Callable[..., None]) -> None:
    evil(lambda: {}["missing"])
    status, (told,) = verdicts(place, laid(place))
    assert (status, told["Result"], told["Cause"]) == (1, "failed", "KeyError: 'missing'")
    assert "Traceback" in told["Trace"]


def test_what_does_not_end_is_ended(place: Place, evil: Callable[..., None]) -> None:
    evil(lambda: time.sleep(600))
    began = time.monotonic()
    status, (told,) = verdicts(place, laid(place), "--seconds", "1")
    assert (status, told["Result"]) == (1, "hangs")
    assert "test_poison.py" in told["Trace"], "and where it stood"
    assert time.monotonic() - began < 30


def test_what_eats_memory_is_ended(place: Place, evil: Callable[..., None]) -> None:
    evil(lambda: bytearray(1 << 30))
    status, (told,) = verdicts(place, laid(place), "--memory", "64M")
    assert (status, told["Result"], told["Cause"]) == (1, "needs too much memory", "MemoryError")


def connected() -> None:
    with socket.create_server(("127.0.0.1", 0)):
        pass


@pytest.mark.parametrize(
    "deed",
    [
        connected,
        lambda: os.fork(),
        lambda: os.system("true"),
        lambda: Path(os.environ["KMQ_TEST_FOLDER"], "made").write_text("x"),
        lambda: Path(os.environ["KMQ_TEST_FOLDER"], "there").unlink(),
        lambda: os.open(Path(os.environ["KMQ_TEST_FOLDER"], "there"), os.O_WRONLY | os.O_APPEND),
    ],
    ids=["network", "fork", "program", "new file", "unlink", "append"],
)
def test_it_can_harm_nobody(
    place: Place, evil: Callable[..., None], deed: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place.spool.parent / "open"
    folder.mkdir()
    (folder / "there").write_text("kept")
    folder.chmod(0o777)
    (folder / "there").chmod(0o666)
    monkeypatch.setenv("KMQ_TEST_FOLDER", str(folder))
    evil(deed)
    status, (told,) = verdicts(place, laid(place))
    assert (status, told["Result"]) == (1, "failed"), told
    assert str(told["Cause"]).startswith(("PermissionError", "BlockingIOError", "OSError")), told
    assert [path.name for path in folder.iterdir()] == ["there"] and (folder / "there").read_text() == "kept"


def test_a_message_of_the_queue_may_be_tried_too(place: Place) -> None:
    name = place.bag.lay(to=("bob@example.net",))
    status, (told,) = verdicts(place, name, "--phase", "executing")
    assert (status, told["Said"]) == (0, ["routed: SmartHostConnectorDelivery;smtp.isp.example:587;isp"])
    status, out, _ = place.run("poison", "test", name, "--phase", "executing")
    assert status == 0 and "kmq resume" not in out, "nobody holds it"


def test_server_rules_are_tried_in_content_filtering(place: Place) -> None:
    """In a charset whose tables Python has not read before, too."""
    rule = "[odd : rule]\ncondition = subject contains другое\naction = hold\n"
    place.path.write_text(f"{place.path.read_text()}\n{rule}")
    subject = b"=?koi8-r?b?%b?=" % base64.b64encode("Другое".encode("koi8-r"))
    name = place.bag.lay(body=b"Subject: %b\r\n\r\nhello\r\n" % subject)
    status, (told,) = verdicts(place, name, "--phase", "content")
    assert status == 0 and any("the rule odd (" in line for line in told["Said"]), told


def test_what_may_be_done_next_is_said_once_behind_all_phases(place: Place) -> None:
    name = place.bag.lay(MOVED, home="poison", to=("bob@example.net",))
    status, out, _ = place.run("poison", "test", name)
    assert status == 0 and out.count(": passed") == 7 and out.count("kmq resume") == 1
    assert out.splitlines()[-1] == f"  it does no harm here now: kmq resume {name} tries it once more"


def test_bad_words_get_one_clear_answer(place: Place) -> None:
    name = laid(place)
    assert place.run("poison", "test", "69212ad0-0000ffff")[0] == 1
    assert "neither in poison/ nor in the queue" in place.run("poison", "test", "69212ad0-0000ffff")[2]
    assert place.run("poison", "test")[0] == 2
    assert place.run("poison", "list", name)[0] == 2
    assert place.run("poison", "test", "../etc/passwd")[0] == 2
    status, _, err = place.run("poison", "test", name, "--phase", "Frying")
    assert status == 2 and "SMTP delivery" in err
    (place.spool / "poison" / f"{name}.eml").unlink()
    assert "its body cannot be read" in place.run("poison", "test", name)[2]


def test_a_body_that_is_a_link_is_not_followed(place: Place) -> None:
    name = laid(place)
    body = place.spool / "poison" / f"{name}.eml"
    body.unlink()
    body.symlink_to("/etc/passwd")
    status, _, err = place.run("poison", "test", name)
    assert status == 1 and "its body cannot be read" in err


@pytest.mark.root
def test_who_may_not_look_is_told_so(place: Place) -> None:
    laid(place)
    (place.spool / "poison").chmod(0o700)
    for folder in (place.spool, *place.spool.parents):
        if folder.stat().st_mode & 0o005 != 0o005 and folder.is_relative_to("/tmp"):
            folder.chmod(0o755)
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command = [*as_nobody, sys.executable, "-m", "kmq.cli.kmq", "-c", str(place.path), "poison", "list"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 78 and "Traceback" not in told.stderr, told.stderr
    assert "ask as root or as kmqd's user" in told.stderr
