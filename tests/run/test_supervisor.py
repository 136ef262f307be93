"""kmqd keeps its children alive, tells the scheduler process of every death, and ends all of them in order."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq.run.children import Patience, read_exit
from tests.run.kmqd import Kmqd, is_standin
from tests.waiting import until


@pytest.fixture
def kmqd(tmp_path: Path) -> Iterator[Kmqd]:
    one = Kmqd(tmp_path)
    yield one
    one.clean()


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Kmqd]:
    """With three workers."""
    one = Kmqd(tmp_path, workers=3)
    yield one
    one.clean()


def names(lines: list[dict[str, object]]) -> list[object]:
    return [one["name"] for one in lines]


# --- birth ------------------------------------------------------------------------------------------------------------


def test_everybody_is_begun_with_his_sockets_and_no_other(kmqd: Kmqd) -> None:
    kmqd.start()
    born = {one["name"]: one for one in kmqd.noted("born")}
    assert {name: one["sockets"] for name, one in born.items()} == {
        "scheduler-1": ["control", "queue"],
        "worker-1": [],
        "index-1": ["look"],
        "receiver-1": ["sendmail#0", "smtp#0"],
    }
    for name, one in born.items():
        assert one["inheritable"] == [], "programs that a child starts get nothing"
        tallies = 4 if name == "receiver-1" else 0
        life, cord = 1, 1
        assert one["title"] == f"kmqd: {name}", "what ps shows"
        assert Path(f"/proc/{one['pid']}/comm").read_text() == f"kmqd-{name[:-2]}\n"
        assert os.readlink(f"/proc/{one['pid']}/fd/0") == os.devnull
        assert one["descriptors"] == len(one["sockets"]) + tallies + life + cord  # type: ignore[arg-type]
    assert re.findall(r"started child=(\S+)", kmqd.log)[0] == "scheduler-1"


def test_the_supervisor_has_one_thread(kmqd: Kmqd) -> None:
    """Of others, a lock that they hold would stay locked in each child that is forked."""
    process = kmqd.start()
    assert os.listdir(f"/proc/{process.pid}/task") == [str(process.pid)]


def test_the_first_word_to_the_scheduler_process_is_who_lives(kmqd: Kmqd) -> None:
    process = kmqd.start()
    kmqd.signal(signal.SIGUSR1)  # logs are opened anew, and nobody dies of it
    hello, living = (one["frame"] for one in kmqd.noted("heard")[:2])
    assert isinstance(hello, dict) and isinstance(living, dict)
    assert (hello["t"], hello["role"], hello["pid"]) == ("hello", "supervisor", process.pid)
    everybody = [["worker", 1], ["receiver", 1], ["index", 1]]
    assert living["children"] == [[role, n, kmqd.pid(f"{role}-{n}")] for role, n in everybody]


# --- death ------------------------------------------------------------------------------------------------------------

DEATHS = {
    "exit:0": (False, "exit status 0"),
    "exit:1": (True, "exit status 1"),
    "exit:75": (False, "exit status 75"),
    "exit:139": (True, "exit status 139"),
    "signal:SIGSEGV": (True, "signal SEGV"),
    "signal:SIGABRT": (True, "signal ABRT"),
    "signal:SIGBUS": (True, "signal BUS"),
    "signal:SIGKILL": (False, "ended from outside by signal KILL"),
    "signal:SIGXCPU": (False, "ended from outside by signal XCPU"),
    "signal:SIGRTMIN": (False, "ended from outside by signal RTMIN"),
}


@pytest.mark.parametrize(("order", "itself", "cause"), [(order, *how) for order, how in DEATHS.items()])
def test_what_a_death_says_about_itself(order: str, itself: bool, cause: str) -> None:
    word, _, value = order.partition(":")
    status = int(value) if word == "exit" else -signal.Signals[value]
    assert read_exit(status) == (status, itself, cause)


def test_who_dies_is_reaped_and_told_and_begun_again(crowd: Kmqd) -> None:
    crowd.start()
    orders = {"worker-1": "exit:1", "worker-2": "signal:SIGSEGV", "worker-3": "signal:SIGKILL", "receiver-1": "exit:75"}
    dead = {name: crowd.pid(name) for name in orders}
    for name, order in orders.items():
        crowd.now(name, order)
    until(lambda: len(crowd.heard("reaped")) == 4, "the scheduler process hears of all")
    told = {f"{one['role']}-{one['n']}": one for one in crowd.heard("reaped")}
    for name, order in orders.items():
        itself, cause = DEATHS[order]
        until(lambda name=name: len(crowd.noted("ready", name)) == 2, "there is another")  # type: ignore[misc]
        frame = {"t": "reaped", "role": name[:-2], "n": int(name[-1]), "pid": dead[name], "itself": itself}
        assert told[name] == frame | {"cause": cause}
        assert crowd.pid(name) != dead[name]
        assert crowd.logged(f'ended child={name} pid={dead[name]} cause="{cause}"')
        assert not os.path.exists(f"/proc/{dead[name]}"), "no zombie"


def test_a_receiver_that_dies_loses_no_connection_in_the_backlog(kmqd: Kmqd) -> None:
    kmqd.start()
    first = kmqd.pid("receiver-1")
    os.kill(first, signal.SIGSTOP)
    clients = [socket.create_connection(("127.0.0.1", kmqd.port), 20) for _ in range(20)]
    os.kill(first, signal.SIGKILL)
    clients += [socket.create_connection(("127.0.0.1", kmqd.port), 20) for _ in range(20)]
    greetings = {client.recv(100) for client in clients}
    assert greetings == {f"220 {kmqd.pid('receiver-1')}\r\n".encode()}
    assert kmqd.pid("receiver-1") != first
    for client in clients:
        client.close()


def test_who_dies_again_and_again_waits_longer_each_time() -> None:
    patience = Patience()
    assert [patience.after(0.1) for _ in range(8)] == [0, 1, 2, 5, 10, 30, 30, 30]
    assert patience.after(59) == 30
    assert [patience.after(lived) for lived in (60, 1, 1, 3600, 1)] == [0, 1, 2, 0, 1], "a good life makes it forget"


# --- the scheduler process --------------------------------------------------------------------------------------------


def test_a_new_scheduler_process_is_told_who_lives_now(kmqd: Kmqd) -> None:
    """What was said to the dead one is lost; who is not named now is dead (J10)."""
    kmqd.start()
    dead = kmqd.pid("worker-1")
    os.kill(kmqd.pid("scheduler-1"), signal.SIGSTOP)
    os.kill(dead, signal.SIGKILL)
    until(lambda: len(kmqd.noted("ready", "worker-1")) == 2, "another worker is there")
    os.kill(kmqd.pid("scheduler-1"), signal.SIGKILL)
    until(lambda: len(kmqd.heard("living")) == 2, "the new one hears who lives")
    living = kmqd.heard("living")[1]["children"]
    everybody = [["worker", 1], ["receiver", 1], ["index", 1]]
    assert living == [[role, n, kmqd.pid(f"{role}-{n}")] for role, n in everybody]
    assert kmqd.heard("reaped") == [], "the one that heard of it is dead"
    assert len(kmqd.noted("born", "scheduler-1")) == 2
    os.kill(kmqd.pid("receiver-1"), signal.SIGKILL)
    until(lambda: kmqd.heard("reaped"), "the new one is told of deaths")


def test_a_process_is_ended_when_the_scheduler_process_asks(kmqd: Kmqd) -> None:
    kmqd.start()
    dead = kmqd.pid("worker-1")
    kmqd.end_process("worker-1")
    until(lambda: kmqd.heard("reaped"), "it is reaped")
    cause = "ended from outside by signal KILL"
    assert kmqd.heard("reaped")[0] == {
        "t": "reaped", "role": "worker", "n": 1, "pid": dead, "itself": False, "cause": cause
    }  # fmt: skip
    until(lambda: len(kmqd.noted("ready", "worker-1")) == 2, "another worker is there")
    kmqd.end_process("worker-1", pid=dead)
    until(lambda: len(kmqd.heard("reaped")) == 2, "an answer also for who is dead already")
    assert kmqd.heard("reaped")[1]["cause"] == "was gone before"
    assert is_standin(kmqd.pid("worker-1"), kmqd.folder), "the one that has its place now is not meant"
    kmqd.end_process("scheduler-1")
    until(lambda: len(kmqd.heard("reaped")) == 3, "an answer")
    assert len(kmqd.noted("born", "scheduler-1")) == 1, "that would be nobody's gain"


def test_a_process_that_stands_still_tells_where_before_it_ends(kmqd: Kmqd) -> None:
    kmqd.start()
    kmqd.end_process("worker-1", hung=True)
    until(lambda: kmqd.heard("reaped"), "it is reaped")
    reaped = kmqd.heard("reaped")[0]
    assert (reaped["itself"], reaped["hung"], reaped["cause"]) == (True, True, "stood still, signal ABRT")
    assert "Fatal Python error: Aborted" in kmqd.log and "standin.py" in kmqd.log
    until(lambda: len(kmqd.noted("ready", "worker-1")) == 2, "another worker is there")
    kmqd.now("worker-1", "exit:0")
    until(lambda: len(kmqd.heard("reaped")) == 2, "it is reaped")
    assert "hung" not in kmqd.heard("reaped")[1], "its successor is another"


def test_a_process_that_stands_still_and_hears_nothing_is_killed(kmqd: Kmqd) -> None:
    kmqd.order("worker-1.1", "stuck")
    kmqd.start(LAST_WORDS=0.1)
    kmqd.end_process("worker-1", hung=True)
    until(lambda: kmqd.heard("reaped"), "it is reaped")
    reaped = kmqd.heard("reaped")[0]
    assert (reaped["itself"], reaped["hung"]) == (True, True)
    assert reaped["cause"] == "stood still, ended from outside by signal KILL"


# --- no crash loop ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scheduler-1", "worker-1"])
def test_a_child_that_finds_the_configuration_wrong_ends_all(kmqd: Kmqd, name: str) -> None:
    kmqd.order(name, "exit:78")
    kmqd.start(ready=False)
    assert kmqd.ends() == 78
    assert len(kmqd.noted("born", name)) == 1
    assert kmqd.logged("a new start would not help, so kmqd stops status=78")
    assert not any(is_standin(one["pid"], kmqd.folder) for one in kmqd.noted("born"))


def test_a_spool_that_another_owns_ends_all(kmqd: Kmqd) -> None:
    kmqd.order("scheduler-1", "exit:75")
    kmqd.start(ready=False)
    assert kmqd.ends() == 75
    assert len(kmqd.noted("born", "scheduler-1")) == 1


def test_a_scheduler_process_that_lost_its_storage_is_begun_again(kmqd: Kmqd) -> None:
    """75 also says that a sync failed (J7): what has worked before is worth another start, whose recovery knows."""
    kmqd.order("scheduler-1.2", "exit:75")
    kmqd.start()
    kmqd.now("scheduler-1", "exit:70")
    until(lambda: len(kmqd.noted("ready", "scheduler-1")) == 2, "the third one serves")
    assert len(kmqd.noted("born", "scheduler-1")) == 3


# --- the end ----------------------------------------------------------------------------------------------------------


def test_the_end_is_in_order(kmqd: Kmqd) -> None:
    kmqd.order("worker-1", "deaf")
    kmqd.start()
    kmqd.signal(signal.SIGTERM)
    until(lambda: kmqd.noted("TERM", "worker-1"), "the worker is told")
    assert names(kmqd.noted("left")) == ["receiver-1"]
    with pytest.raises(ConnectionRefusedError):  # whoever comes now goes to another server, and does not wait
        socket.create_connection(("127.0.0.1", kmqd.port), 20)
    kmqd.release()
    assert kmqd.ends() == 0
    assert names(kmqd.noted("TERM")) == ["receiver-1", "worker-1", "index-1", "scheduler-1"]
    steps = [(one["what"], one["name"]) for one in kmqd.ledger]
    assert steps.index(("left", "receiver-1")) < steps.index(("TERM", "worker-1"))
    assert steps.index(("left", "worker-1")) < steps.index(("TERM", "scheduler-1"))
    assert kmqd.logged("stopped status=0")


def test_while_all_stop_a_dead_scheduler_process_is_begun_again_and_nobody_else(crowd: Kmqd) -> None:
    """The last results want to be recorded, else they are delivered again."""
    for name in ("receiver-1", "worker-1", "worker-3"):
        crowd.order(name, "deaf")
    crowd.start()
    crowd.signal(signal.SIGTERM)
    until(lambda: crowd.noted("TERM", "receiver-1"), "receivers are told")
    os.kill(crowd.pid("worker-2"), signal.SIGKILL)
    until(lambda: crowd.heard("reaped"), "its death is told")
    os.kill(crowd.pid("scheduler-1"), signal.SIGKILL)
    until(lambda: len(crowd.heard("living")) == 2, "another scheduler process is there")
    living = [["worker", 1], ["worker", 3], ["receiver", 1], ["index", 1]]
    assert crowd.heard("living")[1]["children"] == [[role, n, crowd.pid(f"{role}-{n}")] for role, n in living]
    crowd.release()
    assert crowd.ends() == 0
    assert len(crowd.noted("born", "worker-2")) == len(crowd.noted("born", "receiver-1")) == 1


def test_whoever_began_it_may_have_ignored_the_ends_of_children(kmqd: Kmqd) -> None:
    kmqd.start(before=["env", "--ignore-signal=CHLD"])
    os.kill(kmqd.pid("worker-1"), signal.SIGKILL)
    until(lambda: len(kmqd.noted("ready", "worker-1")) == 2, "another worker is there")


def test_who_does_not_end_is_killed_with_a_word_about_it(kmqd: Kmqd) -> None:
    kmqd.order("worker-1", "deaf")
    kmqd.start(STAGES={"receiver": 9, "worker": 0.1, "index": 9, "scheduler": 9})
    kmqd.signal(signal.SIGTERM)
    assert kmqd.ends() == 0
    pid = kmqd.pid("worker-1")
    assert kmqd.logged(f"a process does not end, so it is killed child=worker-1 pid={pid}")
    assert names(kmqd.noted("left")) == ["receiver-1", "index-1", "scheduler-1"]


def test_a_second_signal_hastens_the_end(kmqd: Kmqd) -> None:
    kmqd.order("receiver-1", "deaf")
    kmqd.start(
        STAGES=dict.fromkeys(("receiver", "worker", "index", "scheduler"), 600),
        HASTY={"receiver": 0.2, "worker": 9, "index": 9, "scheduler": 9},
    )
    kmqd.signal(signal.SIGTERM)
    until(lambda: kmqd.noted("TERM", "receiver-1"), "the receiver is told")
    kmqd.signal(signal.SIGINT)
    assert kmqd.ends() == 0
    assert len(kmqd.noted("TERM", "receiver-1")) == 2, "it is told to hasten"
    assert kmqd.logged("hastened")
    assert names(kmqd.noted("left", "worker-1")) == ["worker-1"]


def test_a_terminals_interrupt_reaches_kmqd_alone(kmqd: Kmqd) -> None:
    """Ctrl-C goes to the whole process group of the terminal; children are ended in order all the same."""
    process = kmqd.start()
    os.killpg(process.pid, signal.SIGINT)
    assert kmqd.ends() == 0
    assert kmqd.noted("INT") == []
    assert len(kmqd.noted("TERM")) == 4


# --- reload -----------------------------------------------------------------------------------------------------------


def test_a_wrong_configuration_changes_nothing_for_anybody(kmqd: Kmqd) -> None:
    """Row 41; and a worker that is begun later does not stumble over the broken file."""
    kmqd.start()
    kmqd.configure("log_level = louder\n")
    kmqd.signal(signal.SIGHUP)
    until(lambda: kmqd.logged("the new configuration is wrong"), "it is said")
    assert kmqd.logged(r"kmq\.conf:6: .*log_level.*louder")
    os.kill(kmqd.pid("worker-1"), signal.SIGKILL)
    until(lambda: len(kmqd.noted("ready", "worker-1")) == 2, "another worker is there")
    assert kmqd.noted("born", "worker-1")[1]["log_level"] == "info"
    assert kmqd.noted("make") == []


def test_a_good_configuration_is_for_the_living_and_for_those_to_come(kmqd: Kmqd) -> None:
    kmqd.start()
    kmqd.configure("log_level = debug\n")
    kmqd.signal(signal.SIGHUP)
    until(lambda: len(kmqd.noted("count")) == 4, "it counts for all children")
    kmqd.configure("log_level = error\n")  # and what is in the file by then is not what was read
    os.kill(kmqd.pid("worker-1"), signal.SIGKILL)
    until(lambda: len(kmqd.noted("ready", "worker-1")) == 2, "another worker is there")
    assert {one["log_level"] for one in kmqd.noted("count")} == {"debug"}
    assert kmqd.noted("born", "worker-1")[1]["log_level"] == "debug"
    assert kmqd.noted("HUP") == [], "children hear of it over their cords"


# --- one kmqd, and no child without one -------------------------------------------------------------------------------


def test_without_a_supervisor_children_end_in_order_and_the_next_one_waits_for_them(kmqd: Kmqd) -> None:
    """A worker that still delivers would deliver twice what is handed out anew."""
    kmqd.order("worker-1", "deaf")
    kmqd.start()
    kmqd.signal(signal.SIGKILL)
    assert kmqd.ends() == -signal.SIGKILL
    orphan = kmqd.pid("worker-1")
    until(lambda: kmqd.noted("TERM", "worker-1") and kmqd.noted("left", "receiver-1"), "they notice")
    kmqd.start(ready=False)
    until(lambda: kmqd.logged(f'waiting why=.* pids="?.*pid {kmqd.pid("scheduler-1")}'), "the next kmqd waits")
    assert kmqd.noted("TERM", "scheduler-1") == [], "the worker's last results are still to come"
    kmqd.order("worker-1")
    kmqd.release()
    until(lambda: len(kmqd.noted("ready")) == 8, "the next kmqd begins")
    steps = [(one["what"], one["name"], one["pid"]) for one in kmqd.ledger]
    left = steps.index(("left", "worker-1", orphan))
    assert left < next(at for at, one in enumerate(steps) if one[:2] == ("TERM", "scheduler-1"))
    assert all(at < left or one[0] != "born" for at, one in enumerate(steps[:left]))
    assert [one[0] for one in steps[:left]].count("born") == 4, "nobody was begun before it had left"


def test_orphans_that_do_not_end_are_named(kmqd: Kmqd, monkeypatch: pytest.MonkeyPatch) -> None:
    from kmq.errors import SpoolLocked
    from kmq.run import family

    kmqd.order("worker-1", "deaf")
    kmqd.start()
    kmqd.signal(signal.SIGKILL)
    kmqd.ends()
    until(lambda: kmqd.noted("left", "receiver-1"), "the others end")
    os.kill(kmqd.pid("scheduler-1"), signal.SIGKILL)
    until(lambda: not is_standin(kmqd.pid("scheduler-1"), kmqd.folder), "the scheduler process is gone")
    with pytest.raises(SpoolLocked, match=f"processes of an earlier kmqd still run: pid {kmqd.pid('worker-1')}$"):
        family.outlive_orphans(kmqd.settings.kmq.run_directory, patience=0.1)


def test_of_ten_that_start_at_once_one_runs(kmqd: Kmqd) -> None:
    """Row 31; the nine others touch nothing of the first one's."""
    processes = [kmqd.start(ready=False) for _ in range(10)]
    until(lambda: sum(one.poll() is not None for one in processes) == 9, "nine have ended")
    assert [one.wait() for one in processes if one.poll() is not None] == [75] * 9
    winner = next(one for one in processes if one.poll() is None)
    assert len(re.findall(rf"already running \(pid {winner.pid}\)", kmqd.log)) == 9
    until(lambda: kmqd.heard("living"), "the one is in business")
    until(lambda: len(kmqd.noted("ready")) == 4, "all its children are there")
    assert socket.create_connection(("127.0.0.1", kmqd.port), 20).recv(100).startswith(b"220")
    winner.terminate()
    assert winner.wait(20) == 0


def test_a_child_that_is_born_as_its_supervisor_dies_begins_nothing(kmqd: Kmqd, tmp_path: Path) -> None:
    from kmq.run.inheritance import Estate

    kmqd.start()
    kmqd.signal(signal.SIGTERM)
    kmqd.ends()
    estate = Estate(kmqd.settings, {})
    environment, descriptors = estate.share("worker")
    os.close(estate._held)
    command = [sys.executable, "-m", "tests.run.alone", "--role", "worker", "--number", "1"]
    done = subprocess.run(command, env={**os.environ, **environment}, pass_fds=descriptors, timeout=20)
    assert done.returncode == 0
    assert not (kmqd.spool / "status" / "worker-1.status").exists()
