"""Processor time of a whole tree: children that live, children that are gone, nothing twice."""

import subprocess
import sys
import time

from bench import cpu
from tests.waiting import until

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"
PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", {gone!r}])
living = subprocess.Popen([sys.executable, "-c", {lives!r}], stdin=subprocess.PIPE)
sys.stdin.read()
living.communicate()
"""


def test_a_tree_s_time_is_its_living_and_its_reaped_children():
    lives = BURN.format(seconds=0.2) + "print('done', flush=True); input()"
    program = PARENT.format(gone=BURN.format(seconds=0.3), lives=lives)
    parent = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert parent.stdout.readline() == b"done\n"
        spent = sum(cpu.seconds(parent.pid).values())
        assert 0.48 <= spent < 0.9
        assert len(cpu.tree(parent.pid)) == 2
    finally:
        parent.communicate()
    until(lambda: parent.pid not in cpu.processes(), "the parent is gone")


def test_strangers_are_not_counted():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        begin = time.process_time()
        while time.process_time() - begin < 0.2:
            pass
        assert sum(cpu.seconds(process.pid).values()) < 0.15
        process.communicate()


def test_a_child_of_kmqd_is_called_by_its_role():
    program = [sys.executable, "-c", "from kmq.run import title; title.call('worker', 1); input()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE) as process:
        until(lambda: cpu.processes()[process.pid].name == "worker", "the program is begun")
        process.communicate(b"\n")
