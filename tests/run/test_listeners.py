"""Before children are begun: the spool is looked at, and every address is bound once, or kmqd says why it cannot be."""

import dataclasses
import errno
import os
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kmq.config import Settings, embedded, read
from kmq.errors import ConfigError, ListenFailed, SpoolError
from kmq.run import ground, listeners
from tests.waiting import free_port


def settings(folder: Path, listen: str = "127.0.0.1:2525", more: str = "") -> Settings:
    text = f"[kmq]\nhostname = mx.example.org\nspool = {folder}/spool\n[smtp : receiver]\nlisten = {listen}\n{more}"
    return read(text, "kmq.conf", str(folder))


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    spool = tmp_path / "spool"
    spool.mkdir(0o750)
    return spool


# --- listeners --------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(spool: Path) -> Path:
    (spool / "run").mkdir()
    return spool / "run"


def test_every_address_is_bound_under_the_name_of_its_section(tmp_path: Path, run: Path) -> None:
    first, second = free_port(), free_port()
    more = f"[submission : receiver]\nlisten = 127.0.0.1:{second}"
    bound = listeners.bind(settings(tmp_path, f"127.0.0.1:{first}, [::1]:{first}", more))
    try:
        assert {name: one.getsockname()[:2] for name, one in bound.items() if one.family != socket.AF_UNIX} == {
            "smtp#0": ("127.0.0.1", first),
            "smtp#1": ("::1", first),
            "submission#0": ("127.0.0.1", second),
        }
        for name, one in bound.items():
            assert not one.getblocking() and not one.get_inheritable()
            with socket.socket(one.family) as client:
                client.connect(one.getsockname()), name
    finally:
        listeners.close(bound)
    assert bound == {}


def test_all_of_ipv4_and_all_of_ipv6_are_two_listeners(tmp_path: Path, run: Path) -> None:
    port = free_port()
    bound = listeners.bind(settings(tmp_path, f"0.0.0.0:{port}, [::]:{port}"))
    assert {name for name in bound if listeners.section_of(name) == "smtp"} == {"smtp#0", "smtp#1"}
    listeners.close(bound)


def test_the_sockets_of_the_scheduler_process_are_not_for_everybody(tmp_path: Path, run: Path) -> None:
    mask = os.umask(0)
    try:
        bound = listeners.bind(settings(tmp_path, f"127.0.0.1:{free_port()}"))
    finally:
        assert os.umask(mask) == 0, "as it was"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in run.iterdir()}
    assert modes == {"queue.sock": 0o600, "control.sock": 0o600, "look.sock": 0o600, "submit.sock": 0o666}
    listeners.close(bound)
    again = listeners.bind(settings(tmp_path, f"127.0.0.1:{free_port()}"))  # over the names that were left
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(run / "queue.sock"))
    listeners.close(again)


@pytest.mark.parametrize(("before", "after"), [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")])
def test_a_port_goes_from_one_address_to_another_without_a_pause(
    tmp_path: Path, run: Path, before: str, after: str
) -> None:
    port = free_port()
    old = listeners.bind(settings(tmp_path, f"{before}:{port}"))
    with pytest.raises(ListenFailed, match="something else listens there"):
        listeners.bind(settings(tmp_path, f"{after}:{port}"))
    new = listeners.bind(settings(tmp_path, f"{after}:{port}"), (), old.values())
    try:
        assert [new[name] is old[name] for name in ("queue", "control", "sendmail#0")] == [True] * 3
        with pytest.raises(ListenFailed, match="something else listens there"):
            listeners._tcp(after.strip("[]"), port, "another kmqd")
        old.pop("smtp#0").close()
        with pytest.raises(ListenFailed, match="something else listens there"):
            listeners._tcp(after.strip("[]"), port, "another kmqd")
        with socket.socket(new["smtp#0"].family) as client:
            client.connect(("127.0.0.1" if "." in after else "::1", port))
            assert new["smtp#0"].accept()
    finally:
        listeners.close(new)


def test_an_address_that_both_configurations_have_is_the_same_socket_also_in_another_section(
    tmp_path: Path, run: Path
) -> None:
    first, second = free_port(), free_port()
    old = listeners.bind(settings(tmp_path, f"127.0.0.1:{first}, 127.0.0.1:{second}"))
    more = f"[other : receiver]\nlisten = 127.0.0.1:{first}"
    new = listeners.bind(settings(tmp_path, f"127.0.0.1:{second}", more), (), old.values())
    assert new["other#0"] is old["smtp#0"] and new["smtp#0"] is old["smtp#1"]
    listeners.close(old)


def test_when_a_new_address_is_taken_the_old_ones_stay_open(tmp_path: Path, run: Path) -> None:
    first, free = free_port(), free_port()
    old = listeners.bind(settings(tmp_path, f"127.0.0.1:{first}"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        both = f"127.0.0.1:{first}, 127.0.0.1:{free}, 127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenFailed):
            listeners.bind(settings(tmp_path, both), (), old.values())
    assert old["smtp#0"].getsockname()[1] == first
    with pytest.raises(ListenFailed):
        listeners._tcp("127.0.0.1", first, "it is still ours")
    socket.create_server(("127.0.0.1", free)).close()
    listeners.close(old)


@pytest.mark.parametrize(
    ("listen", "kind", "status", "text"),
    [
        ("192.0.2.1:2525", ListenFailed, 75, "[smtp] listen = 192.0.2.1:2525: this machine does not have that address"),
        ("[2001:db8::1]:25", ListenFailed, 75, "[smtp] listen = [2001:db8::1]:25: this machine does not have"),
    ],
)
def test_an_address_that_is_not_ours(
    tmp_path: Path, run: Path, listen: str, kind: type[ConfigError], status: int, text: str
) -> None:
    with pytest.raises(kind) as told:
        listeners.bind(settings(tmp_path, listen))
    assert str(told.value).startswith(text)
    assert told.value.exit_status == status
    assert list(run.iterdir()) == []


def test_when_one_address_is_taken_none_is_kept(tmp_path: Path, run: Path) -> None:
    free = free_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            ListenFailed, match=rf"^\[smtp\] listen = 127.0.0.1:{port}: something else listens there$"
        ) as told:
            listeners.bind(settings(tmp_path, f"127.0.0.1:{free}, 127.0.0.1:{port}"))
    assert told.tb, "which keeps what was bound from being closed by chance"
    assert list(run.iterdir()) == [], "the sockets of whoever runs there are not touched"
    socket.create_server(("127.0.0.1", free)).close()


def test_a_port_that_needs_a_right_is_a_matter_of_configuration() -> None:
    told = listeners._failed("[smtp] listen = 0.0.0.0:25", OSError(errno.EACCES, "Permission denied"))
    assert isinstance(told, ConfigError)
    assert "need root or CAP_NET_BIND_SERVICE" in str(told)


# --- the ground -------------------------------------------------------------------------------------------------------


def missing(spool: Path) -> None:
    spool.rmdir()


def link(spool: Path) -> None:
    spool.rmdir()
    (spool.parent / "real").mkdir()
    spool.symlink_to("real")


def file(spool: Path) -> None:
    spool.rmdir()
    spool.touch()


def open_to_all(spool: Path) -> None:
    spool.chmod(0o777)


def run_is_open_to_all(spool: Path) -> None:
    (spool / "run").mkdir()
    (spool / "run").chmod(0o777)


def run_is_a_link(spool: Path) -> None:
    (spool / "run").symlink_to("/tmp")


REFUSED: dict[Callable[[Path], None], str] = {
    missing: "is missing; make it: install -d -m 750 ",
    link: "is a symbolic link; name the folder itself in the configuration",
    file: "is not a folder",
    open_to_all: "everybody may write in ",
    run_is_open_to_all: "everybody may write in ",
    run_is_a_link: "run is a symbolic link",
}


@pytest.mark.parametrize(("how", "text"), REFUSED.items(), ids=[how.__name__ for how in REFUSED])
def test_a_spool_that_cannot_be_used_is_refused_in_one_line(
    spool: Path, how: Callable[[Path], None], text: str
) -> None:
    how(spool)
    with pytest.raises(SpoolError) as told:
        ground.enter(settings(spool.parent))
    assert text in str(told.value) and "\n" not in str(told.value) and str(spool) in str(told.value)
    assert told.value.exit_status == 78


def test_a_spool_of_somebody_else_is_refused(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = spool.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(SpoolError, match=f"belongs to user {owner}, and kmqd runs as user {owner + 1}"):
        ground.enter(settings(spool.parent))


def test_a_folder_of_a_later_program_is_refused(spool: Path) -> None:
    (spool / "FORMAT").write_text('{"kmq":"spool","version":99}\n')
    with pytest.raises(SpoolError, match="format 99"):
        ground.build(spool)


@pytest.mark.root
def test_a_spool_on_two_file_systems_is_refused(spool: Path) -> None:
    (spool / "journal").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(spool / "journal")], check=True)
    try:
        with pytest.raises(SpoolError, match=r"journal is on another file system than .*spool"):
            ground.build(spool)
    finally:
        subprocess.run(["umount", str(spool / "journal")], check=True)


def test_what_is_missing_is_made_and_what_is_there_stays(spool: Path) -> None:
    (spool / "queue").mkdir()
    (spool / "queue" / "note").touch()
    for _ in range(2):
        ground.enter(settings(spool.parent))
        ground.build(spool)
    assert (spool / "queue" / "note").exists()
    assert (spool / "FORMAT").exists() and (spool / "incoming").is_dir()
    assert stat.S_IMODE((spool / "run").stat().st_mode) == 0o755 & ~os.umask(os.umask(0o022))


def test_trying_kmq_out_begins_with_nothing(tmp_path: Path) -> None:
    trial = embedded(str(tmp_path))
    ground.enter(trial)
    assert (tmp_path / "spool" / "run").is_dir()
    with pytest.raises(SpoolError):
        ground.enter(dataclasses.replace(embedded(str(tmp_path / "nowhere")), path="kmq.conf"))


def test_what_is_no_socket_of_ours_stays(tmp_path: Path, run: Path) -> None:
    """The path of the socket for programs is out of the configuration: it may be wrong."""
    other = tmp_path / "letter.txt"
    other.write_text("mine")
    with pytest.raises(ConfigError, match=r"letter\.txt: something else is there, which is no socket"):
        listeners.bind(settings(tmp_path, f"127.0.0.1:{free_port()}", f"[sendmail]\nsocket = {other}"))
    assert other.read_text() == "mine"


def test_the_socket_of_another_kmqd_is_not_taken_from_it(tmp_path: Path, run: Path) -> None:
    theirs = socket.socket(socket.AF_UNIX)
    theirs.bind(str(tmp_path / "shared.sock"))
    theirs.listen()
    place = f"[sendmail]\nsocket = {tmp_path}/shared.sock"
    with pytest.raises(ListenFailed, match=r"shared\.sock: something else listens there"):
        listeners.bind(settings(tmp_path, f"127.0.0.1:{free_port()}", place))
    theirs.close()
    listeners.close(listeners.bind(settings(tmp_path, f"127.0.0.1:{free_port()}", place)))
