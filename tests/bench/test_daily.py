"""What a program costs that has nothing to do: counted by the kernel, and held against its goals."""

import subprocess
import sys

from bench.daily import Cost, costs, goals, table


def test_who_sleeps_costs_nothing_and_who_works_a_processor() -> None:
    busy = "print(flush=True)\nwhile True: pass"
    for program, working in (("import time; print(flush=True); time.sleep(60)", False), (busy, True)):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as one:
            assert one.stdout is not None and one.stdout.readline()
            (cost,) = costs(one.pid, 0.3)
            one.kill()
        assert (cost.processor > 0.001) == working
        assert cost.pss > 1_000_000


def test_all_processes_count_together() -> None:
    two = [Cost("kmqd", 0.0006, 1.0, 70_000_000), Cost("worker", 0.0003, 1.0, 40_000_000)]
    assert [goal.met for goal in goals(two)] == [True, True]
    three = [*two, Cost("worker", 0.0003, 1.0, 20_000_000)]
    assert [goal.met for goal in goals(three)] == [False, False]
    assert table(three).splitlines()[-1].split() == ["all", "0.120", "3.0", "130.0"]
