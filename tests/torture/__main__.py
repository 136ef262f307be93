"""python -m tests.torture: much mail, many kills, one line of judgement; exit status 1 when a rule was broken.

Promise: whatever was acknowledged is delivered, or its sender told, once; see tests/torture/ledger for the one excuse.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.postfix import find
from tests.torture.run import Outcome, Plan, run


def main() -> int:
    options = arguments()
    postfix = find()
    if postfix is None:
        print("smtp-source and smtp-sink are not here: `make postfix` fetches them", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="kmq-torture."))
    plan = Plan(options.messages, options.kills, options.seed, options.pace, receivers=2, strangers=True)
    outcome = run(plan, folder / "kmq", postfix)
    return judged(outcome, f"seed {options.seed}", folder)


def judged(outcome: Outcome, what: str, folder: Path) -> int:
    """Says how it ended; what went wrong stays to be looked at."""
    print(f"torture, {what}: {outcome}", flush=True)
    if not outcome.wrong:
        shutil.rmtree(folder)
        return 0
    for sentence in outcome.wrong[:50]:
        print(f"  {sentence}")
    print(f"{len(outcome.wrong)} violations; configuration, spool and log: {folder}")
    return 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description="kmqd is killed while mail flows.")
    parser.add_argument("--messages", type=int, default=100_000, help="letters of the ledger (100000)")
    parser.add_argument("--kills", type=int, default=300, help="blows (300)")
    parser.add_argument("--seed", type=int, default=1, help="of every choice (1)")
    parser.add_argument("--pace", type=float, default=2.0, help="longest pause between two blows, seconds (2)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
