"""kmqd under a service manager: what it says of itself, which sockets it is given, who is ended for standing still."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.config import Settings, read
from kmq.errors import ConfigError
from kmq.run import activation, listeners, watch
from kmq.run.activation import Given
from kmq.run.children import Child
from kmq.run.notify import Notify
from tests.run.kmqd import Kmqd
from tests.waiting import free_port, until


class Manager:
    """The socket that NOTIFY_SOCKET names. said: every datagram as its lines, in order."""

    def __init__(self, name: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name[0] == "@" else name)
        self.socket.setblocking(False)
        self.name = name
        self._said: list[list[str]] = []

    @property
    def said(self) -> list[list[str]]:
        while True:
            try:
                self._said.append(self.socket.recv(65536).decode().split("\n"))
            except BlockingIOError:
                return self._said

    def lines(self, beginning: str) -> list[str]:
        return [line for datagram in self.said for line in datagram if line.startswith(beginning)]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """With a name that has no file, as systemd may choose it."""
    one = Manager(f"@kmq-{os.getpid()}-{tmp_path.name}")
    yield one
    one.socket.close()


@pytest.fixture
def kmqd(tmp_path: Path) -> Iterator[Kmqd]:
    one = Kmqd(tmp_path)
    yield one
    one.clean()


# --- what it says of itself -------------------------------------------------------------------------------------------


def test_ready_is_said_when_the_scheduler_process_has_recovered_and_receivers_serve(
    kmqd: Kmqd, manager: Manager
) -> None:
    kmqd.environment = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "60000000"}
    kmqd.order("scheduler-1", "late")
    kmqd.start(ready=False)
    until(lambda: kmqd.noted("ready", "receiver-1") and kmqd.noted("ready", "worker-1"), "all others are ready")
    until(lambda: manager.lines("STATUS=recovers the queue"), "systemd hears what is waited for")
    until(lambda: manager.lines("EXTEND_TIMEOUT_USEC="), "and that it takes its time")
    assert not manager.lines("READY=1")
    kmqd.release()
    until(lambda: manager.lines("READY=1"), "it is ready")
    assert manager.said[-1][:2] == ["READY=1", "STATUS=takes mail in; 7 messages queued"]
    until(lambda: manager.lines("WATCHDOG=1"), "signs of life")
    for name in ("scheduler-1", "worker-1", "receiver-1"):
        seen = kmqd.noted("born", name)[0]["surroundings"]
        assert isinstance(seen, list) and not {"NOTIFY_SOCKET", "WATCHDOG_USEC"} & set(seen), "kmqd speaks for itself"
    kmqd.signal(signal.SIGTERM)
    assert kmqd.ends() == 0
    assert len(manager.lines("READY=1")) == 1
    assert ["STOPPING=1", "STATUS=stops"] in manager.said


@pytest.mark.parametrize("more", ["log_level = debug\n", "log_level = louder\n"])
def test_a_reload_is_announced_and_ends_with_ready_whatever_came_of_it(kmqd: Kmqd, manager: Manager, more: str) -> None:
    kmqd.environment = {"NOTIFY_SOCKET": manager.name}
    kmqd.start()
    until(lambda: manager.lines("READY=1"), "it is ready")
    kmqd.configure(more)
    began = time.monotonic_ns() // 1000
    kmqd.signal(signal.SIGHUP)
    until(lambda: len(manager.lines("READY=1")) == 2, "it is ready again")
    [reloading] = [one for one in manager.said if one[0] == "RELOADING=1"]
    micro = re.fullmatch(r"MONOTONIC_USEC=(\d+)", reloading[1])
    assert micro and began <= int(micro[1]) <= time.monotonic_ns() // 1000
    assert not manager.lines("WATCHDOG=1"), "nobody waits for signs of life"


@pytest.mark.parametrize(
    ("environment", "watchdog"),
    [
        ({}, 0),
        ({"WATCHDOG_USEC": "30000000"}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "soon"}, 0),
        ({"NOTIFY_SOCKET": "vsock:2:1"}, 0),
        ({"NOTIFY_SOCKET": "/nowhere/at/all"}, 0),
    ],
)
def test_without_a_listener_nothing_is_said_and_nothing_fails(environment: dict[str, str], watchdog: float) -> None:
    notify = Notify(environment)
    assert (notify.watchdog, environment) == (watchdog, {})
    notify.ready("x")
    notify.alive()
    notify.stopping()


# --- who stands still -------------------------------------------------------------------------------------------------


def settings(folder: Path, more: str = "") -> Settings:
    text = f"[kmq]\nhostname = mx.example.org\nspool = {folder}/spool\nloop_limit = 10s\n{more}"
    return read(text + "[queue]\nphase_limit = 100s\n", "kmq.conf", str(folder))


@pytest.mark.parametrize(
    ("role", "ready", "silence", "ended", "well"),
    [
        ("scheduler", True, 14, False, True),
        ("scheduler", True, 16, True, True),
        ("scheduler", True, 46, True, False),
        ("scheduler", False, 3000, False, True),
        ("scheduler", False, 3601, True, True),
        ("receiver", True, 16, True, True),
        ("receiver", False, 16, False, True),
        ("worker", True, 99, False, True),
        ("worker", True, 1000, False, False),
    ],
)
def test_how_long_a_loop_may_stand_still(
    tmp_path: Path, role: str, ready: bool, silence: float, ended: bool, well: bool
) -> None:
    child = Child(role, 1)
    child.pid = 4242
    child.ready, child.heard = ready, 1000.0
    now = 1000.0 + silence
    assert watch.standing_still([child], settings(tmp_path), now) == ([child] if ended else [])
    assert watch.well([child], settings(tmp_path), now) is well
    assert watch.well([Child(role, 1)], settings(tmp_path), now + 1e6), "who is not there is being begun"


def test_only_who_begins_for_the_first_time_is_given_more_time() -> None:
    child = Child("scheduler", 1)
    child.pid, child.lives = 4242, 1
    assert watch.beginning([child])
    child.lives = 2
    assert not watch.beginning([child]), "systemd's patience ends a loop of starts"
    child.lives, child.ready = 1, True
    assert not watch.beginning([child])


@pytest.mark.parametrize("name", ["scheduler-1", "receiver-1"])
def test_one_that_stands_still_is_ended_and_begun_again(kmqd: Kmqd, name: str) -> None:
    kmqd.configure("loop_limit = 1s\n")
    kmqd.start(LAST_WORDS=0.2, LOOK=0.1)
    still = kmqd.pid(name)
    os.kill(still, signal.SIGSTOP)
    until(lambda: len(kmqd.noted("ready", name)) == 2, "another one is there")
    assert kmqd.logged(rf'a process is ended child={name} pid={still} why="?hangs')
    assert kmqd.logged(rf'ended child={name} pid={still} cause="stood still')


def test_systemd_hears_no_sign_of_life_while_somebody_stands_still_whom_nobody_ends(kmqd: Kmqd, tmp_path: Path) -> None:
    manager = Manager(f"{tmp_path}/notify")
    kmqd.environment = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "1000000"}
    kmqd.configure("[queue]\nphase_limit = 10ms\n")
    kmqd.start(MARGIN_in_watch=1.5, LOOK=0.05)
    until(lambda: len(manager.lines("WATCHDOG=1")) > 2, "signs of life")
    os.kill(kmqd.pid("worker-1"), signal.SIGSTOP)
    until(lambda: _falls_silent(manager), "none any more")
    os.kill(kmqd.pid("worker-1"), signal.SIGCONT)
    count = len(manager.lines("WATCHDOG=1"))
    until(lambda: len(manager.lines("WATCHDOG=1")) > count, "and again, when it goes on")


def _falls_silent(manager: Manager) -> bool:
    before = len(manager.lines("WATCHDOG=1"))
    time.sleep(0.3)  # six looks
    return len(manager.lines("WATCHDOG=1")) == before


def test_a_supervisor_that_stood_still_itself_blames_nobody(kmqd: Kmqd) -> None:
    kmqd.configure("loop_limit = 1s\n")
    process = kmqd.start(LOOK=0.1)
    os.kill(process.pid, signal.SIGSTOP)
    pids = [kmqd.pid(name) for name in ("scheduler-1", "receiver-1")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 1.5, "longer than a loop may stand still")
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    os.kill(process.pid, signal.SIGCONT)
    kmqd.configure("loop_limit = 2s\n")
    kmqd.signal(signal.SIGHUP)
    until(lambda: kmqd.logged("configuration=2"), "life goes on")
    assert not kmqd.logged("a process is ended")


# --- sockets that systemd bound ---------------------------------------------------------------------------------------


def tcp(address: str = "127.0.0.1", both: bool = False) -> socket.socket:
    one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    if ":" in address:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not both)
    one.bind((address, free_port()))
    one.listen()
    return one


def port_of(one: socket.socket) -> int:
    return int(one.getsockname()[1])


def configured(folder: Path, *sections: str) -> Settings:
    (folder / "spool" / "run").mkdir(parents=True, exist_ok=True)
    return settings(folder, "\n".join(sections) + "\n")


def smtp(*listen: str, name: str = "smtp") -> str:
    return f"[{name} : receiver]\nlisten = {', '.join(listen)}"


def test_what_was_given_is_used_and_the_rest_is_bound(tmp_path: Path) -> None:
    given, own = tcp(), free_port()
    wanted = configured(tmp_path, smtp(f"127.0.0.1:{port_of(given)}", f"127.0.0.1:{own}"))
    bound = listeners.bind(wanted, [Given("kmq.socket", given)])
    assert bound["smtp#0"] is given
    assert port_of(bound["smtp#1"]) == own
    listeners.close(bound)


def test_a_socket_of_programs_by_its_path(tmp_path: Path) -> None:
    wanted = configured(tmp_path)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(wanted.sendmail.socket))
        one.listen()
        bound = listeners.bind(wanted, [Given("submit", one)])
        assert one in bound.values()
        assert os.path.exists(str(wanted.sendmail.socket)), "its name stays the one that systemd made"
        listeners.close(bound)


def test_one_socket_for_ipv4_and_ipv6(tmp_path: Path) -> None:
    given = tcp("::", both=True)
    port = port_of(given)
    bound = listeners.bind(configured(tmp_path, smtp(f"0.0.0.0:{port}", f"[::]:{port}")), [Given("smtp", given)])
    assert [one for name, one in bound.items() if listeners.section_of(name) == "smtp"] == [given]
    listeners.close(bound)
    given = tcp("::", both=True)
    port = port_of(given)
    apart = configured(tmp_path, smtp(f"0.0.0.0:{port}"), smtp(f"[::]:{port}", name="six"))
    with pytest.raises(ConfigError, match=r"one socket for this address and for one of \[smtp\].*BindIPv6Only"):
        listeners.bind(apart, [Given("smtp", given)])
    given.close()


def test_what_fits_no_address_belongs_to_the_section_of_its_name_or_is_refused(tmp_path: Path) -> None:
    given, own = tcp(), free_port()
    wanted = configured(tmp_path, smtp(f"127.0.0.1:{own}"))
    bound = listeners.bind(wanted, [Given("smtp", given)])
    assert bound["smtp#1"] is given
    with pytest.raises(ConfigError) as told:
        listeners.bind(wanted, [Given("submission", given)], bound.values())
    assert told.value.exit_status == 78
    assert re.search(
        rf"127.0.0.1:{port_of(given)} \(FileDescriptorName=submission\): name it in `listen`", str(told.value)
    )
    listeners.close(bound)


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({}, 0),
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, 0),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "some"}, 0),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "smtp"}, 1),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}, 1),
    ],
)
def test_only_what_is_meant_for_this_process_is_taken(environment: dict[str, str], count: int) -> None:
    with tcp() as one:
        fd = os.dup(one.fileno())
        os.set_inheritable(fd, True)
        named = environment.get("LISTEN_FDNAMES", "unknown")
        found = activation.received(environment, first=fd)
        assert [given.name for given in found] == [named] * count
        assert environment == {}, "no child takes it for its own"
        for given in found:
            assert not given.socket.get_inheritable() and not given.socket.getblocking()
            given.socket.close()
        if not count:
            os.close(fd)


def test_what_does_not_listen_is_refused() -> None:
    with socket.socket() as idle:
        text = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "smtp"}
        with pytest.raises(ConfigError, match=r"descriptor \d+ \(smtp\), which does not listen for streams"):
            activation.received(text, first=os.dup(idle.fileno()))
    reading, writing = os.pipe()
    text = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    with pytest.raises(ConfigError, match="is no socket"):
        activation.received(text, first=reading)
    os.close(reading)
    os.close(writing)


#: Gives a program a socket as systemd does: from descriptor 3 on, and says to whom.
_GIVE = """
import os, socket, sys
one = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if one.fileno() != 3:
    os.dup2(one.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="smtp")
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_a_kmqd_that_was_given_its_port_serves_it_and_gives_it_back(kmqd: Kmqd) -> None:
    kmqd.start(before=[sys.executable, "-c", _GIVE, str(kmqd.port)])
    assert socket.create_connection(("127.0.0.1", kmqd.port), 20).recv(100).startswith(b"220")
    seen = kmqd.noted("born", "receiver-1")[0]["surroundings"]
    assert isinstance(seen, list) and not [one for one in seen if one.startswith("LISTEN_")]
    given, kmqd.port = kmqd.port, free_port()
    kmqd.configure()
    kmqd.signal(signal.SIGHUP)
    until(lambda: kmqd.logged("configuration=2"), "it listens elsewhere too; what is called smtp stays with [smtp]")
    for port in (given, kmqd.port):
        assert socket.create_connection(("127.0.0.1", port), 20).recv(100).startswith(b"220")
    kmqd.signal(signal.SIGTERM)
    assert kmqd.ends() == 0


@pytest.mark.skipif(not os.path.exists("/usr/bin/systemd-socket-activate"), reason="needs systemd")
def test_a_real_kmqd_under_systemds_own_starter(tmp_path: Path) -> None:
    kmqd = Kmqd(tmp_path)
    starter = ["systemd-socket-activate", "-l", f"127.0.0.1:{kmqd.port}", "--fdname=smtp"]
    command = [sys.executable, "-P", "-m", "kmq.cli.kmqd", "-c", str(kmqd.path)]
    with open(tmp_path / "log", "ab") as log:
        process = subprocess.Popen([*starter, *command], stderr=log, start_new_session=True)
    try:
        until(lambda: "Listening on" in kmqd.log, "the starter listens")
        with socket.create_connection(("127.0.0.1", kmqd.port), 20) as client:  # which starts it
            assert client.recv(100).startswith(b"220 mx.example.org")
        until(lambda: " ready pid=" in kmqd.log, "it is ready")
    finally:
        process.terminate()
        assert process.wait(60) == 0
