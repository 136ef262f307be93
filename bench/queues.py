"""`make bench-queues`: what 100,000 messages that wait cost the mail that flows, and how fast they are steered.

Each run has a kmqd with an empty queue first, and then one with the crowd, so that their ratio is of one machine in one
hour. One table with the goals beside; the numbers stay in bench/results/<time>-queues.json. Exit status 1 when a goal
is missed. Wants no other programs and no root; all that is made lies below build/ and is removed at the end.
"""

import argparse
import asyncio
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import cpu, idle
from bench.crowd import Call, Crowd, crowded, waiting
from bench.fresh import Fresh
from bench.kmq import compiled
from bench.machine import TREE, keep, machine, mention_others, workplace
from bench.queues_report import Beside, Run, Verb, goals, table
from bench.report import verdict

FLOW = 500.0
FRESH_PAUSE = 0.05
WARM_UP = 10

#: What is asked of the listing: name -> words behind `kmq mailq`.
LISTINGS: dict[str, tuple[str, ...]] = {
    "page of 1,000": ("--limit", "1000"),
    "by size, sorted by two keys": ("--filter", "Size -gt 900", "--sort=-Size,FromAddress", "--limit", "1000"),
    "by recipient, sorted by two keys": (
        *("--filter", "Recipients -like 'rcpt77*'", "--sort=Queue,-DateReceived", "--limit", "1000"),
    ),
    "by last error, sorted by two keys": (
        *("--filter", "LastError -like '*greylisted*'", "--sort=+NextRetryTime,-Size", "--limit", "1000"),
    ),
}

#: Verbs on everything, in an order in which each finds all of it. `flush` is `retry` of all.
VERBS: dict[str, tuple[str, ...]] = {
    "suspend": ("suspend", "--all", "--yes"),
    "resume": ("resume", "--all", "--yes"),
    "retry": ("retry", "--all", "--yes"),
    "resubmit": ("resubmit", "--all", "--yes"),
    "remove": ("remove", "--all", "--yes"),
}

#: What goes on beside the flow, again and again; verbs by turns, so that each finds something to do.
ACTIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "kmq mailq": (("mailq", "--limit", "1000"),),
    "kmq mailq --filter --sort": (("mailq", *LISTINGS["by size, sorted by two keys"]),),
    "kmq queues": (("queues",),),
    "kmq suspend, resume": (VERBS["suspend"], VERBS["resume"]),
    "kmq retry": (VERBS["retry"],),
}


class Bench:
    """What all runs share: a folder on the disk that is measured, and how long things take."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options

    def run(self, domains: int) -> Run:
        """One crowd, against an empty queue."""
        options = self._options
        with self._crowd(0, domains) as kmqd:
            empty, bare = self._fresh(kmqd), kmqd.resident
        with self._crowd(options.messages, domains) as kmqd:
            kmqd.rest()
            full = kmqd.resident
            crowd = self._fresh(kmqd)
            told(f"{domains} domains: fresh mail, median ms: empty {empty.median:.1f}, crowded {crowd.median:.1f}")
            listings = {name: self._cold(kmqd, "mailq", *words) for name, words in LISTINGS.items()}
            told(f"{domains} domains: listings, s: {listings}")
            beside = [self._beside(kmqd, name, actions) for name, actions in self._actions()]
            loading = kmqd.loading
            verbs = {name: self._verb(kmqd, *words) for name, words in VERBS.items()}
            told(f"{domains} domains: verbs, messages/s: {verbs}")
            most = kmqd.resident
        return Run(options.messages, domains, empty, crowd, bare, full, most, loading, listings, verbs, beside)

    def small(self) -> Call:
        """What `kmq mailq` takes on 1,000 messages, start-up included."""
        with self._crowd(1000, 10) as kmqd:
            return self._cold(kmqd, "mailq")

    def _actions(self) -> Iterator[tuple[str, tuple[tuple[str, ...], ...]]]:
        return iter(ACTIONS.items() if self._options.seconds else ())

    def _fresh(self, kmqd: Crowd) -> Fresh:
        waits = asyncio.run(idle.measure(kmqd.port, kmqd.hop_port, WARM_UP + self._options.fresh, FRESH_PAUSE))
        return Fresh([1000 * wait for wait in waits[WARM_UP:]])

    def _cold(self, kmqd: Crowd, *words: str) -> Call:
        """The median of three calls, each a process of its own."""
        return sorted(kmqd.kmq(*words) for _ in range(3))[1]

    def _verb(self, kmqd: Crowd, *words: str) -> Verb:
        """One call on a kmqd that is at rest."""
        kmqd.rest()
        before = cpu.seconds(kmqd.pid)
        call = kmqd.kmq(*words)
        used = cpu.seconds(kmqd.pid)["scheduler"] - before["scheduler"]
        each = 1e6 / self._options.messages
        return Verb(self._options.messages / call.seconds, each * call.processor, each * used)

    def _beside(self, kmqd: Crowd, name: str, actions: tuple[tuple[str, ...], ...]) -> Beside:
        """The flow without and with these commands in a loop, by turns."""
        kmqd.rest()
        without = self._flow(kmqd)
        with self._repeating(kmqd, actions) as count:
            with_it = self._flow(kmqd)
        found = Beside(name, FLOW, without, with_it, count())
        told(f"beside {name}: {found.rate_ratio:.2f} of the rate, {found.wait_ratio:.2f} of the median wait")
        return found

    def _flow(self, kmqd: Crowd) -> list[float]:
        """Milliseconds from the dot to the sink, of all messages of one flow."""
        arguments = [str(kmqd.port), str(kmqd.hop_port), str(FLOW), str(self._options.seconds)]
        done = subprocess.run(
            [sys.executable, "-m", "bench.flow", *arguments], capture_output=True, text=True, cwd=TREE
        )
        if done.returncode:
            raise RuntimeError(f"the flow broke off: {done.stderr.strip()[-300:]}")
        return [1000 * wait for wait in json.loads(done.stdout)]

    @staticmethod
    @contextmanager
    def _repeating(kmqd: Crowd, actions: tuple[tuple[str, ...], ...]) -> Iterator[Callable[[], int]]:
        """Calls kmq with each of these, again and again, while the block runs; how often so far."""
        ended = threading.Event()
        rounds = itertools.count()
        failed: list[BaseException] = []

        def repeat() -> None:
            try:
                while not ended.is_set():
                    for words in actions:  # whole rounds: what was suspended is resumed
                        kmqd.kmq(*words)
                        next(rounds)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=repeat)
        thread.start()
        try:
            yield lambda: next(rounds)
        finally:
            ended.set()
            thread.join()
        if failed:
            raise failed[0]

    @contextmanager
    def _crowd(self, messages: int, domains: int) -> Iterator[Crowd]:
        folder = Path(tempfile.mkdtemp(prefix="queues.", dir=self._options.folder))
        os.sync()
        try:
            with crowded(folder, waiting(messages, domains), domains) as kmqd:
                yield kmqd
        except BaseException:
            print(f"this run failed; what it left lies in {folder}", file=sys.stderr)
            raise
        shutil.rmtree(folder)


def told(line: str) -> None:
    print(line, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-queues", description="A crowded queue against an empty one.")
    parser.add_argument("--messages", type=int, default=100_000, help="that wait (100,000)")
    parser.add_argument("--domains", type=int, nargs="+", default=[1000, 1], help="a run for each number (1000 1)")
    parser.add_argument("--fresh", type=int, default=200, help="single fresh messages (200)")
    parser.add_argument("--seconds", type=float, default=10, help="of each flow (10; 0 for none)")
    parser.add_argument("--folder", type=Path, default=TREE / "build", help="on the disk to be measured (build/)")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    options.folder = workplace(options.folder)
    facts = machine(options.folder)
    mention_others("figures will be off, ratios less so")
    compiled()
    bench = Bench(options)
    runs = [bench.run(domains) for domains in options.domains]
    small = bench.small()
    print(f"\n{table(runs, small)}\n")
    status = verdict(goals(runs, small))
    path = keep(facts, {"runs": [run.figures() for run in runs], "small": small._asdict()}, "-queues")
    print(f"\nAll numbers: {path.relative_to(TREE)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
