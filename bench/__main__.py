"""`make bench`: kmq and Debian's Postfix by turns on this machine, the same disk, the same load, one table.

Promise: nothing of the system is changed; all that is made lies in a folder below build/ that is removed at the end.
         The numbers of each run stay in bench/results/<time>.json. Exit status 1 when a goal is missed.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench import report, slow_disk
from bench.exim import Exim
from bench.ground import Ground, Length
from bench.kmq import Kmq, compiled
from bench.load import Bare, bare
from bench.machine import TREE, keep, machine, mention_others, told, workplace
from bench.mta import Mta, Ways
from bench.opensmtpd import OpenSmtpd
from bench.postfix import Postfix
from bench.report import Goal, verdict
from bench.rows import FIRST, ROWS, Row
from tests.postfix import Postfix as Programs
from tests.postfix import find
from tests.waiting import free_port

#: What a row found: name of the MTA -> its runs.
Runs = dict[str, list[Any]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench",
        description="kmq and Debian's Postfix side by side.",
        epilog="rows: " + "; ".join(f"{name}: {row.title}" for name, row in ROWS.items()),
    )
    parser.add_argument(
        "--rows",
        "--row",
        default="",
        metavar="ROW,ROW",
        help=f"what is measured, or all ({','.join(FIRST)}; with --only: one,idle)",
    )
    parser.add_argument("--seconds", type=float, default=60, help="load of each run (60)")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each, by turns (3)")
    parser.add_argument("--idle", type=int, default=50, help="single messages while idle (50; 0 for none)")
    parser.add_argument("--deferred", type=int, default=20_000, help="messages that wait, to be drained (20000)")
    parser.add_argument("--only", metavar="MTA", help="one of them, without a table")
    parser.add_argument("--folder", type=Path, default=TREE / "build", help="on the disk to be measured (build/)")
    options = parser.parse_args()
    options.rows = chosen(parser, options)
    return options


def chosen(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[str]:
    """The names of the rows that are measured."""
    usual = ("one", "idle") if options.only else FIRST
    names = list(ROWS) if options.rows == "all" else options.rows.split(",") if options.rows else list(usual)
    if unknown := set(names) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    if not options.idle:
        names = [name for name in names if name != "idle"]
    return names


def makers(programs: Programs) -> dict[str, Callable[[Path, Ways], Mta]]:
    """The MTAs by name, kmq first."""
    found: dict[str, Callable[[Path, Ways], Mta]]
    found = {"kmq": Kmq.on, "postfix": lambda folder, ways: Postfix(programs, folder, ways)}
    return found | {"opensmtpd": OpenSmtpd, "exim": Exim} if os.environ.get("BENCH_PEERS") == "all" else found


def alone(ground: Ground, options: argparse.Namespace) -> int:
    """Runs of one of them, each told in a line."""
    for name in options.rows:
        for _ in range(1 if name == "idle" else options.pairs):
            print(ROWS[name].tell(ROWS[name].measure(ground, options.only)), flush=True)
    return 0


def side_by_side(ground: Ground, mtas: list[str], options: argparse.Namespace) -> int:
    """The rows, the table, the goals, the file."""
    facts = machine(options.folder)
    print(told(facts), flush=True)
    mention_others("figures will be off, of both")
    found: dict[str, Runs] = {}
    without: dict[str, Bare] = {}
    for name in options.rows:
        if name.startswith("slow") and (lack := slow_disk.missing()):
            print(f"{ROWS[name].title}: left out, this machine has no {lack}")
            continue
        print(f"\n{ROWS[name].title}", flush=True)
        if load := ROWS[name].load:
            without[name] = bare(ground.programs, load, free_port())
            print(f"{'none':10}{without[name].rate:6,.0f}/s; source and sink use {without[name].cost:.2f} ms each")
        found[name] = by_turns(ground, ROWS[name], mtas, options.pairs)
        keep(facts, _figures(found, without))  # a long session that is broken off leaves what it has found
    print(f"\n{report.table([_called(name) for name in mtas], _lines(found, without, mtas))}\n")
    status = verdict(goal for name, runs in found.items() for goal in judged(ROWS[name], runs))
    print(f"\nAll numbers: {keep(facts, _figures(found, without)).relative_to(TREE)}")
    return status


def by_turns(ground: Ground, row: Row[Any], mtas: list[str], pairs: int) -> Runs:
    """So many runs of each; who is first changes from pair to pair."""
    names = mtas if row.peers else mtas[:2]
    runs: Runs = {name: [] for name in names}
    for pair in range(pairs):
        for name in names if pair % 2 else reversed(names):
            runs[name].append(row.measure(ground, name))
            print(row.tell(runs[name][-1]), flush=True)
    return runs


def judged(row: Row[Any], runs: Runs) -> Iterator[Goal]:
    for wish in row.wishes:
        goal = wish(runs["kmq"], runs["postfix"])
        yield Goal(f"{row.title}: {goal.wish}", goal.found, goal.met)


def _lines(found: dict[str, Runs], without: dict[str, Bare], mtas: list[str]) -> Iterator[tuple[str, ...]]:
    empty = [""] * (2 * (len(mtas) - 1))
    for name, runs in found.items():
        yield (ROWS[name].title,)
        if name in without:
            yield ("  messages/s without an MTA between", f"{without[name].rate:,.0f}", *empty)
            yield ("  processor ms of source and sink alone", f"{without[name].cost:.2f}", *empty)
        for cells in report.lines(ROWS[name].measures, runs):
            yield (*cells, *[""] * (2 * (len(mtas) - len(runs))))


def _figures(found: dict[str, Runs], without: dict[str, Bare]) -> dict[str, object]:
    rows = {name: {mta: [asdict(run) for run in of] for mta, of in runs.items()} for name, runs in found.items()}
    return {"rows": rows, "without an MTA": {name: one._asdict() for name, one in without.items()}}


def _called(name: str) -> str:
    return {"postfix": "Postfix", "opensmtpd": "OpenSMTPD", "exim": "Exim"}.get(name, name)


def main() -> int:
    options = arguments()
    programs = find()
    if programs is None:
        print("Postfix's programs are not here: `make postfix` fetches them", file=sys.stderr)
        return 2
    if os.geteuid() != 0:
        print("Postfix starts as root only: sudo make bench", file=sys.stderr)
        return 2
    options.folder = workplace(options.folder)
    compiled()
    made = makers(programs)
    ground = Ground(programs, options.folder, Length(options.seconds, options.idle, options.deferred), made)
    return alone(ground, options) if options.only else side_by_side(ground, list(made), options)


if __name__ == "__main__":
    sys.exit(main())
