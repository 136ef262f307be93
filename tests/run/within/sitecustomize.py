"""What tests/run/test_rules changes within one process of kmqd: Python reads this first where PYTHONPATH names it.

KMQ_MUTANT  the name of a rule (tests/run/mutants) that this process does not keep.
KMQ_GATE    a file: while it is there, no fdatasync of this process ends. A disk may be as slow as that.
"""

import os
import sys

if "--role" in sys.orig_argv:
    if "KMQ_MUTANT" in os.environ:
        from tests.run.mutants import MUTANTS

        MUTANTS[os.environ["KMQ_MUTANT"]]()
    if "KMQ_GATE" in os.environ:
        from tests.run.mutants import closed_gate

        closed_gate(os.environ["KMQ_GATE"])
