"""A child of kmqd that no supervisor has begun: `alone.py --role ROLE --number N`, with what `Estate.share` gives.

Tests that are the supervisor themselves begin it so, and change it before it lives (tests/run/within).
"""

import argparse
import sys

from kmq.cli import child

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", required=True)
    parser.add_argument("--number", type=int, required=True)
    given = parser.parse_args()
    sys.exit(child.live(given.role, given.number))
