"""The question before much is done.

Promise:  takes no answer for no; a script, which cannot be asked, is refused with the words to say.
Callers:  kmq.cli.act, kmq.cli.act_queues.
"""

import sys

from kmq.cli.call import DONE, REFUSED, USAGE, Call
from kmq.view.words import harmless

#: More than this is not acted on without a question.
UNASKED = 10


def consent(call: Call, deed: str, consequence: str = "") -> int:
    """Whether somebody wants that: DONE. REFUSED when he does not, USAGE when nobody can be asked.

    deed: `remove 11 messages`; consequence: a sentence.
    """
    if call.arguments.yes:
        return DONE
    deed = harmless(deed)
    if not sys.stdin.isatty():
        call.warn(f"this would {deed}: say --yes if that is meant, or --what-if to see them")
        return USAGE
    more = f" {consequence}" if consequence else ""
    print(f"{deed[:1].upper()}{deed[1:]}?{more} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return DONE
    call.warn("nothing was done")
    return REFUSED
