"""kmq fsck: every row of LEGAL STATES is named, with what it means and what mends it; --repair mends and loses nothing.

Each row is staged once (tests/spool/staging). The page, the table in the code, and what the program says are one.
"""

import hashlib
import itertools
import json
import os
import re
import shutil
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from kmq.cli.kmq import main
from kmq.errors import SpoolError
from kmq.model import queue_id
from kmq.run import family
from kmq.spool import layout
from kmq.spool.disk import Disk
from kmq.spool.fsck import Look, examine
from kmq.spool.lock import SpoolLock
from kmq.spool.states import STATES, Files, Part, Said, row
from tests.spool import second_reader, staging
from tests.spool.second_reader import read_spool
from tests.spool.staging import Scene
from tests.spool.tracks import Track, pause
from tests.spool.world import World, message
from tests.torture.kmqd import Kmqd
from tests.waiting import free_port, until

PAGE = Path(__file__).resolve().parents[2] / "man" / "kmq-spool.5"

CONFIGURATION = """\
[kmq]
hostname = mx.example.org
spool = {spool}
local_domains = example.org

[queue]
queue_database_logging_file_size = 256K

[mx : receiver]
listen = 127.0.0.1:2525
"""

#: What nobody mends but a person, so that fsck goes on to tell of it.
LASTING = ("D7", "D7_misplaced", "D7_in_the_journal", "D8")
DAMAGE = [name for name in staging.SCENES if name[0] == "D"]
MOMENTS = [name for name in staging.SCENES if name[0] == "S"]


@dataclass
class Operator:
    """Somebody who calls kmq. spool: its folder; what is staged there comes by `stage`."""

    folder: Path
    capture: "pytest.CaptureFixture[str]"

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def configuration(self) -> Path:
        path = self.folder / "kmq.conf"
        if not path.exists():
            path.write_text(CONFIGURATION.format(spool=self.spool))
        return path

    def stage(self, name: str) -> Scene:
        return staging.stage(self.spool, name)

    def fsck(self, *words: str) -> tuple[int, str, str]:
        """In this process: exit status, output, errors."""
        self.capture.readouterr()
        status = main(
            ["-c", str(self.configuration), *(word for word in words if word == "--json"), "fsck"]
            + [word for word in words if word != "--json"]
        )
        return (status, *self.capture.readouterr())

    def found(self, *words: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.fsck("--json", *words)[1].splitlines()]

    def program(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """As a program of its own."""
        return subprocess.run(
            [sys.executable, "-m", "kmq.cli.kmq", "-c", str(self.configuration), *words], capture_output=True, text=True
        )


@pytest.fixture
def operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Operator:
    return Operator(tmp_path, capsys)


def everything(spool: Path) -> dict[str, bytes]:
    """Every file of mail, by name; times and owners do not count."""
    folders = ("queue", "poison", "incoming")
    paths = itertools.chain(*((spool / folder).rglob("*") for folder in folders))
    return {str(path.relative_to(spool)): path.read_bytes() for path in paths if path.is_file()}


def checksums(spool: Path) -> set[str]:
    """Of every file of mail."""
    return {hashlib.sha256(text).hexdigest() for text in everything(spool).values()}


# --- the page and the code --------------------------------------------------------------------------------------------


def test_the_page_and_the_code_mean_the_same() -> None:
    entries = re.findall(r"^\.It \\&([SD]\d+)\n(.*?)(?=^\.It|^\.El)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    told = {}
    for state, text in entries:
        meaning, _, mended = " ".join(text.split()).partition(". Mended by ")
        told[state] = (meaning.removesuffix("."), mended.removesuffix("."))
    assert told == STATES


def pages_rows() -> dict[str, tuple[str, str]]:
    """state -> the four columns of files, and the condition behind them."""
    table = PAGE.read_text().partition(".Sh LEGAL STATES")[2].partition(".Bd -literal")[2].partition(".Ed")[0]
    rows: dict[str, tuple[str, str]] = {}
    last = ""
    for line in table.splitlines()[3:]:
        if line[0] == "S":
            last, *files = line.split()[:5]
            rows[last] = ("".join(files), line[28:])
        else:
            rows[last] = (rows[last][0], f"{rows[last][1]} {line.strip()}")
    return rows


def test_every_way_in_which_files_may_lie_has_the_row_that_the_page_gives_it() -> None:
    """All of them: what lies in each of the four places, with each thing that the journal may say."""
    rows, seen = pages_rows(), Counter[str]()
    assert sorted(rows) == [f"S{number}" for number in range(1, 8)]
    for places in itertools.product(Part, repeat=4):
        for put, move, remove, explained in itertools.product((False, True), repeat=4):
            if "x" in (places[0], places[2]):
                continue  # a body bears no ID
            state = row(Files(*places[:2]), Files(*places[2:]), Said(put, move, remove), explained)
            assert state == second_reader.row(list(places), put, move, remove, explained)
            seen[state] += 1
            if state in rows and not (state == "S5" and explained):
                files, condition = rows[state]
                assert all(column in ("?", place) for column, place in zip(files, places, strict=True)), state
                for word, said in (("put", put), ("move", move), ("remove", remove)):
                    if condition.startswith(word):
                        assert said, f"{state}, though the page wants a {word}"
    assert set(seen) == {*rows, "D1", "D2", "D3", "D4", "D5", "D6"}


# --- what is found ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", staging.SCENES)
def test_each_row_is_named_with_path_meaning_and_what_mends_it(operator: Operator, name: str) -> None:
    scene = operator.stage(name)
    before = everything(operator.spool)
    status, out, err = operator.fsck()
    assert err == ""
    assert status == (1 if name in DAMAGE else 0)
    meaning, mended_by = STATES[scene.state]
    detail = f" ({scene.detail})" if scene.detail else ""
    verdict = "1 damaged" if name in DAMAGE else "1 to be done by kmqd's next start"
    assert out == f"{scene.state}  {scene.path}: {meaning}{detail}\n    mended by {mended_by}\n-- {verdict}\n"
    assert operator.found() == [
        {
            "State": scene.state,
            "Path": scene.path,
            "Damage": name in DAMAGE,
            "Meaning": meaning,
            "Detail": scene.detail or None,
            "MendedBy": mended_by,
        }
    ]
    assert everything(operator.spool) == before


def test_the_program_says_so_by_its_exit_status(operator: Operator) -> None:
    operator.stage("S1")
    done = operator.program("fsck")
    assert (done.returncode, done.stderr) == (0, "")
    assert "-- 1 to be done by kmqd's next start" in done.stdout
    shutil.rmtree(operator.spool)
    scene = operator.stage("D4_checksum")
    done = operator.program("--json", "fsck")
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["Path"] == scene.path
    assert operator.program("fsck", "--quick").returncode == 0
    done = operator.program("fsck", "--repair")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "All files are in order"


def test_what_is_torn_and_stands_whole_behind_it_is_no_damage(operator: Operator) -> None:
    """As a full disk leaves it: half a line, and the whole one when there was room."""
    scene = operator.stage("S8")
    head, deferred = scene.envelope.read_bytes().split(b"\n")
    scene.envelope.with_suffix(".env.new").unlink()
    scene.envelope.write_bytes(b"\n".join([head, deferred[:50], deferred]))
    assert operator.fsck()[:2] == (0, "All files are in order\n")
    scene.envelope.write_bytes(b"\n".join([head, deferred[:50]]))
    assert [one["State"] for one in operator.found()] == ["D8"]


def test_what_a_later_kmq_wrote_is_no_damage(operator: Operator) -> None:
    from kmq.model.envelope import seal

    scene = operator.stage("D8")
    line = seal(b'{"event":"archived","seq":1,"at":"2030-01-01T00:00:00.000Z"}')
    scene.envelope.write_bytes(scene.envelope.read_bytes().partition(b"\n")[0] + b"\n" + line)
    assert operator.fsck()[0] == 0


def test_a_spool_of_a_later_kmq_is_not_judged(operator: Operator) -> None:
    operator.stage("D1")
    (operator.spool / "FORMAT").write_text('{"kmq":"spool","version":2}\n')
    for words in ((), ("--repair",)):
        status, out, err = operator.fsck(*words)
        assert (status, out) == (78, "")
        assert "has format 2, this kmq knows formats up to 1" in err


def test_a_damaged_format_is_written_by_hand(operator: Operator) -> None:
    operator.stage("S1")
    (operator.spool / "FORMAT").write_text("")
    status, out, _ = operator.fsck()
    assert status == 1
    assert 'it should read {"kmq":"spool","version":1}' in out
    status, _, err = operator.fsck("--repair")
    assert status == 78
    assert 'it should read {"kmq":"spool","version":1}' in err


def test_names_that_are_no_files_disturb_nobody(operator: Operator) -> None:
    scene = operator.stage("S8")
    folder = scene.envelope.parent
    scene.envelope.with_suffix(".env.new").unlink()
    os.mkfifo(folder / "69214cb0-000000aa.env")
    os.symlink("/etc/passwd", folder / "69214cb0-000000ab.env")
    (folder / "69214cb0-000000ac.eml").mkdir()
    os.mkfifo(operator.spool / "queue" / "fifo")
    os.symlink(folder, operator.spool / "queue" / "69214-0001")
    (operator.spool / "queue" / "69214-0002").write_text("no folder")
    (folder / os.fsdecode(b"\xff\n\x1b[2J")).touch()
    status, out, _ = operator.fsck()
    assert status == 1
    assert "\x1b" not in out
    assert Counter(str(one["State"]) for one in operator.found()) == {"D3": 2, "D1": 1, "D7": 4}
    operator.fsck("--repair")
    assert Counter(str(one["State"]) for one in operator.found()) == {"D7": 4}
    assert scene.body.read_bytes() == staging.TEXT
    assert Path("/etc/passwd").exists()
    assert os.path.islink(operator.spool / "poison" / "69214cb0-000000ab.env")


def test_what_cannot_be_read_is_said_in_words(operator: Operator) -> None:
    operator.stage("S1")
    shutil.rmtree(operator.spool / "queue")
    (operator.spool / "queue").write_text("")
    status, _, err = operator.fsck()
    assert status == 78
    assert "queue cannot be read: Not a directory" in err


# --- mending ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", staging.SCENES)
def test_a_repair_mends_by_the_table_and_loses_nothing(operator: Operator, name: str) -> None:
    scene = operator.stage(name)
    before = everything(operator.spool)
    status, _, err = operator.fsck("--repair")
    assert err == ""
    assert status == (1 if name in LASTING else 0)
    assert [one["State"] for one in operator.found()] == ([scene.state] if name in LASTING else [])
    assert scene.mail <= checksums(operator.spool)
    kept = everything(operator.spool)
    if scene.state not in ("S2", "S6", "S7", "S8"):  # half made, removed, never accepted, half made
        for path, text in before.items():
            assert any(one.startswith(text) for one in kept.values()), f"{path} is gone"
    again = operator.fsck("--repair")
    assert (again[0], everything(operator.spool)) == (status, kept), "a second repair changes something"


@pytest.mark.parametrize(
    "name", ["S1", "S2_body_alone", "S2_torn_envelope", "S2_body_of_zeros", "S2_large", "S8", "D8"]
)
def test_what_was_accepted_is_in_the_queue_then(operator: Operator, name: str) -> None:
    scene = operator.stage(name)
    operator.fsck("--repair")
    assert scene.body.read_bytes() == staging.TEXT
    assert read_spool(operator.spool).messages[scene.name].state == "S3"


@pytest.mark.parametrize("name", ["D1", "D2", "D3", "D3_empty", "D3_a_folder", "D4_checksum", "D4_size", "D5"])
def test_damage_lies_in_poison_then_with_its_reason(operator: Operator, name: str) -> None:
    scene = operator.stage(name)
    lay = {
        ending: path.read_bytes() for ending, path in (("env", scene.envelope), ("eml", scene.body)) if path.is_file()
    }
    status, out, _ = operator.fsck("--repair")
    reason = (operator.spool / "poison" / f"{scene.name}.reason").read_text()
    assert reason.endswith(f"it lay in {layout.folder(scene.number)}\n")
    assert scene.name in out
    poison = operator.spool / "poison"
    assert {ending: (poison / f"{scene.name}.{ending}").read_bytes() for ending in lay} == lay
    assert not scene.envelope.exists() and not scene.body.exists()
    assert status == 0


@pytest.mark.parametrize("name", ["D1_in_poison", "D4_in_poison"])
def test_damage_that_lies_in_poison_gets_its_reason(operator: Operator, name: str) -> None:
    scene = operator.stage(name)
    before = everything(operator.spool)
    operator.fsck("--repair")
    reason = f"poison/{scene.name}.reason"
    after = everything(operator.spool)
    assert STATES[scene.state].meaning in after.pop(reason).decode()
    assert after == before
    (operator.spool / reason).write_bytes(b"")  # as a power cut may leave it
    operator.fsck("--repair")
    assert STATES[scene.state].meaning in (operator.spool / reason).read_text()


def test_of_two_homes_the_one_that_knows_more_is_kept(operator: Operator) -> None:
    scene = operator.stage("D6_copied")
    knew = scene.envelope.read_bytes()
    operator.fsck("--repair")
    assert (scene.envelope.read_bytes(), scene.body.read_bytes()) == (knew, staging.TEXT)
    poison = operator.spool / "poison"
    kept = poison / f"{scene.name}.1.env"
    assert knew.startswith(kept.read_bytes())
    assert not scene.poisoned_envelope.exists() and not scene.poisoned_body.exists()
    assert "beside queue/" in (poison / f"{scene.name}.reason").read_text()


def test_of_two_homes_a_whole_body_is_kept_with_the_better_envelope(operator: Operator) -> None:
    scene = operator.stage("D6_other_body")
    knew, other = scene.poisoned_envelope.read_bytes(), scene.poisoned_body.read_bytes()
    operator.fsck("--repair")
    assert (scene.poisoned_envelope.read_bytes(), scene.poisoned_body.read_bytes()) == (knew, staging.TEXT)
    assert not scene.envelope.exists() and not scene.body.exists()
    assert (operator.spool / "poison" / f"{scene.name}.1.eml").read_bytes() == other


def test_a_message_goes_where_its_last_move_says(operator: Operator) -> None:
    scene = operator.stage("D6_moved")
    knew, less = scene.envelope.read_bytes(), scene.poisoned_envelope.read_bytes()
    operator.fsck("--repair")
    assert (scene.poisoned_envelope.read_bytes(), scene.poisoned_body.read_bytes()) == (knew, staging.TEXT)
    assert not scene.envelope.exists() and not scene.body.exists()
    assert (operator.spool / "poison" / f"{scene.name}.1.env").read_bytes() == less


def test_a_body_of_another_does_not_become_the_messages(operator: Operator) -> None:
    """Left there, it would be taken for the message's own when that moves to poison/."""
    scene = operator.stage("D6_second_body")
    operator.fsck("--repair")
    assert scene.body.read_bytes() == staging.TEXT
    assert not scene.poisoned_body.exists()
    assert (operator.spool / "poison" / f"{scene.name}.1.eml").read_bytes().startswith(b"Subject: something else")


def test_a_damaged_segment_is_kept(operator: Operator) -> None:
    operator.stage("D10")
    (segment,) = (operator.spool / "journal").glob("*.log")
    text = segment.read_bytes()
    status, out, _ = operator.fsck("--repair")
    assert status == 0
    assert "what follows record 0 is damaged" in out
    assert (operator.spool / "journal" / f"damaged.{segment.name}").read_bytes() == text


def test_records_count_though_the_checkpoint_is_lost(operator: Operator) -> None:
    scene = operator.stage("S1")
    checkpoint = operator.spool / "journal" / "checkpoint"
    checkpoint.write_bytes(b"")
    assert [one["State"] for one in operator.found()] == ["D9", "S1"]
    assert operator.fsck("--repair")[0] == 0
    assert scene.body.read_bytes() == staging.TEXT


class Stop(BaseException):
    """The process is no more."""


class Stopping(Disk):
    """Counts changes, and stops before one of them."""

    left = -1

    def _change(self) -> None:
        type(self).left -= 1
        if self.left == 0:
            raise Stop

    def create(self, name: str) -> int:
        self._change()
        return super().create(name)

    def link(self, old: str, new: str) -> None:
        self._change()
        super().link(old, new)

    def unlink(self, name: str) -> None:
        self._change()
        super().unlink(name)

    def rename(self, old: str, new: str) -> None:
        self._change()
        super().rename(old, new)


@pytest.mark.parametrize(
    "name",
    ["D3", "D3_a_folder", "D4_in_poison", "D6_copied", "D6_moved", "D6_other_body", "D6_no_envelope"],
)
def test_a_repair_may_be_stopped_at_every_step(operator: Operator, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = operator.stage(name)
    fresh = operator.folder / "fresh"
    operator.spool.rename(fresh)
    monkeypatch.setattr("kmq.spool.mending.Disk", Stopping)
    for steps in itertools.count(1):
        shutil.copytree(fresh, operator.spool)
        monkeypatch.setattr(Stopping, "left", steps)
        try:
            operator.fsck("--repair")
        except Stop:
            assert scene.mail <= checksums(operator.spool), f"lost at step {steps}"
            monkeypatch.setattr(Stopping, "left", -1)
            assert operator.fsck("--repair")[0] == 0
            assert scene.mail <= checksums(operator.spool), f"lost after step {steps}"
            assert operator.found() == []
            shutil.rmtree(operator.spool)
        else:
            break
    assert steps > 8


def test_a_message_set_aside_twice_keeps_both_files(operator: Operator) -> None:
    """The ID's name is taken in poison/ by what was set aside before; nothing is put over it."""
    scene = operator.stage("D1")
    operator.fsck("--repair")
    scene.body.parent.mkdir(exist_ok=True)
    scene.body.write_bytes(b"Subject: another\r\n\r\n")
    assert operator.fsck("--repair")[0] == 0
    poison = operator.spool / "poison"
    assert (poison / f"{scene.name}.eml").read_bytes() == staging.TEXT
    assert (poison / f"{scene.name}.1.eml").read_bytes() == b"Subject: another\r\n\r\n"


# --- who may repair ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files to another user")
def test_root_repairs_as_the_owner_of_the_spool(operator: Operator) -> None:
    """Else kmqd could not read what was mended."""
    folder = Path(tempfile.mkdtemp(prefix="kmq-fsck-"))
    folder.chmod(0o755)
    try:
        owned = Operator(folder, operator.capture)
        scene = owned.stage("S1")
        for path in [owned.spool, *owned.spool.rglob("*")]:
            os.chown(path, 65534, 65534)
        assert owned.fsck("--repair")[0] == 0
        assert os.geteuid() == 0
        assert scene.body.stat().st_uid == 65534
        assert {path.stat().st_uid for path in owned.spool.rglob("*")} == {65534}
        os.setegid(65533)
        os.seteuid(65533)
        try:
            status, _, err = owned.fsck("--repair")
        finally:
            os.seteuid(0)
            os.setegid(0)
        assert status == 78
        assert "belongs to nobody: do this as that user, or as root" in err
    finally:
        shutil.rmtree(folder)


def test_nothing_is_repaired_while_a_process_of_kmqd_lives(operator: Operator) -> None:
    """The scheduler process may be dead for a moment: the supervisor starts the next one, and a worker has mail in its
    hands."""
    scene = operator.stage("D1")
    before = everything(operator.spool)
    run_directory = operator.spool / "run"
    for hold in (
        lambda: SpoolLock(operator.spool).release,
        lambda: family.lock_kmqd(run_directory).release,
        lambda: family.belong(run_directory, "worker").close,
        lambda: family.belong(run_directory, "scheduler").close,
    ):
        release = hold()
        done = operator.program("fsck", "--repair")
        release()
        assert (done.returncode, done.stdout) == (75, "")
        assert f"pid {os.getpid()}" in done.stderr
        assert "Stop kmqd first" in done.stderr
        assert everything(operator.spool) == before
    assert operator.fsck("--repair")[0] == 0
    assert not scene.body.exists()


# --- while mail flows -------------------------------------------------------------------------------------------------


class Paused(Disk):
    """Of a storage that stands still before each of its changes; no power cut is to come, so it syncs nothing."""

    def datasync(self, fd: int) -> None:
        pass

    def sync(self, fd: int) -> None:
        pass

    def sync_all(self) -> None:
        pass

    def create(self, name: str) -> int:
        pause()
        return super().create(name)

    def link(self, old: str, new: str) -> None:
        pause()
        super().link(old, new)

    def unlink(self, name: str) -> None:
        pause()
        super().unlink(name)

    def rename(self, old: str, new: str) -> None:
        pause()
        super().rename(old, new)

    def append(self, name: str, text: bytes) -> None:
        pause()
        super().append(name, text)


class Overtaken(Disk):
    """While somebody looks here, the storage goes on: at times many steps between two looks."""

    track: Track
    random: Random

    def _go_on(self) -> None:
        if self.random.random() < 0.1:
            for _ in range(self.random.randrange(60)):
                self.track.step()

    def names(self, folder: str) -> list[str]:
        self._go_on()
        return super().names(folder)

    def read(self, name: str, limit: int = 1 << 30) -> bytes:
        self._go_on()
        return super().read(name, limit)

    def status(self, name: str) -> os.stat_result | None:
        self._go_on()
        return super().status(name)


def live_on(world: World) -> None:
    """Mail comes, moves and goes, covered by checkpoints."""
    while True:
        numbers = [world.put(b"Subject: fast\r\n\r\n") for _ in range(4)]
        world.sync_all()
        for number in numbers[2:]:
            world.move(number, 1)
        world.settle()
        for number in numbers:
            world.remove(number)
        world.settle()
        world.checkpoint()


def test_what_moves_between_two_glances_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    track = Track()
    Overtaken.track, Overtaken.random = track, Random(7)
    monkeypatch.setattr("kmq.spool.fsck.Disk", Overtaken)
    world = World(tmp_path, disk=Paused(tmp_path))
    track.begin(lambda: live_on(world))
    alarms = 0
    for _ in range(40):
        alarms += any(one.damage for one in Look(Overtaken(tmp_path)).everything())
        found = list(examine(tmp_path, live=True, pause=lambda _: [track.step() for _ in range(50)]))
        assert found == []
    track.stop()
    assert alarms > 4, "too little looks like damage at first sight: the test shows nothing"


@pytest.fixture
def kmqd(tmp_path: Path) -> Iterator[Kmqd]:
    made = Kmqd(tmp_path / "kmqd", hops={"far.test": free_port()}, workers=1)
    made.start()
    yield made
    made.close()


def flow(port: int, ended: threading.Event, sent: Counter[str]) -> None:
    """Mail to here, to a server that is away, large and small, one after the other."""
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.ehlo("client.test")
        for number in itertools.count():
            if ended.is_set():
                return
            body = ("x" * 998 + "\r\n") * (150 if number % 5 == 0 else 1)
            to = ["b@local.test", "c@far.test"][number % 3 == 0 :]
            client.sendmail("a@example.org", to, f"Subject: {number}\r\n\r\n{body}")
            sent["messages"] += 1


def test_a_live_spool_with_mail_in_motion_shows_nothing_false_and_everything_true(
    kmqd: Kmqd, operator: Operator
) -> None:
    ended, sent = threading.Event(), Counter[str]()
    threads = [threading.Thread(target=flow, args=(kmqd.port, ended, sent)) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        looks, deadline = 0, time.monotonic() + 60
        while looks < 10 or sent["messages"] < 200:
            assert time.monotonic() < deadline
            assert list(examine(kmqd.spool, live=True)) == []
            looks += 1
        program = [sys.executable, "-m", "kmq.cli.kmq", "-c", str(kmqd.folder / "kmq.conf"), "fsck"]
        done = subprocess.run(program, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "All files are in order, kmqd runs\n")
        refused = subprocess.run([*program, "--repair"], capture_output=True, text=True)
        assert (refused.returncode, refused.stdout) == (75, "")
        assert f"pid {kmqd.pid}" in refused.stderr
        damage = damaged_beside(kmqd.spool)
        assert {(one.state, one.path) for one in examine(kmqd.spool, live=True)} == damage
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert kmqd.accidents() == []


def damaged_beside(spool: Path) -> set[tuple[str, str]]:
    """Puts damage of four kinds into a spool; -> the findings. IDs that kmqd will never issue."""
    places = [layout.stem(queue_id.parse(f"00000001-0000000{digit}")) for digit in "1234"]
    (spool / places[0]).parent.mkdir()
    for number, place in enumerate(places[1:], 2):
        line, text = message(queue_id.parse(f"00000001-0000000{number}"))
        (spool / f"{place}.env").write_bytes(line if number != 3 else line[:50])
        (spool / f"{place}.eml").write_bytes(text if number != 4 else text[::-1])
    (spool / f"{places[1]}.eml").unlink()
    (spool / f"{places[0]}.eml").write_bytes(b"alone")
    return {
        ("D1", f"{places[0]}.eml"),
        ("D2", f"{places[1]}.env"),
        ("D3", f"{places[2]}.env"),
        ("D4", f"{places[3]}.eml"),
    }


def test_what_kmqd_leaves_when_it_stops_is_at_rest(kmqd: Kmqd) -> None:
    with smtplib.SMTP("127.0.0.1", kmqd.port, timeout=20) as client:
        client.sendmail("a@example.org", ["c@far.test"], "Subject: stays\r\n\r\nhere\r\n")
    until(kmqd.queued, "the message is in the queue")
    assert kmqd.stop() == 0
    assert list(examine(kmqd.spool, live=False)) == []


def test_a_spool_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match="cannot be read"):
        shutil.rmtree(tmp_path / "queue", ignore_errors=True)
        (tmp_path / "queue").touch()
        list(examine(tmp_path, live=False))
