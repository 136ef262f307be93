"""python -m tests.torture.cut: the power is cut while mail flows, again and again; one line of judgement.

Promise: what was acknowledged is there after every cut, whole; what was delivered and is durably known to be does not
         come back. The ledger and the next hops lie on another disk.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.postfix import find
from tests.torture.__main__ import judged
from tests.torture.image import mounted
from tests.torture.run import Plan, run

POWER = {"power": 1}


def main() -> int:
    options = arguments()
    postfix = find()
    if postfix is None or os.geteuid() != 0:
        print("needs root, and smtp-source and smtp-sink (`make postfix` fetches them)", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="kmq-cut."))
    plan = Plan(options.cuts * 40, options.cuts, options.seed, options.pace, POWER, strangers=True)
    with mounted(folder) as image:
        outcome = run(plan, folder / "kmq", postfix, image)
    return judged(outcome, f"power cuts, seed {options.seed}", folder)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture.cut", description="The power is cut under kmqd.")
    parser.add_argument("--cuts", type=int, default=200, help="how often (200)")
    parser.add_argument("--seed", type=int, default=1, help="of every choice (1)")
    parser.add_argument("--pace", type=float, default=1.5, help="longest pause between two cuts, seconds (1.5)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
