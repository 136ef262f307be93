"""kmq-sendmail -bv: asks kmqd what it would do with mail for an address.

Promise:  nothing is sent, and nothing of the configuration need be readable: kmqd itself answers.
Callers:  cli.sendmail.
"""

import time
from collections.abc import Callable, Iterator, Sequence

from kmq.cli.handover import PATIENCE, Lost, NotNow, Reply, Talk, Watch, connect

_PAUSE = 0.2


def verify(
    addresses: Sequence[str], places: Callable[[], Iterator[str]], watch: Watch
) -> list[tuple[str, Reply]] | NotNow:
    """kmqd's word on each address."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with connect(places(), deadline) as connection:
                talk = Talk(connection, watch)
                opened = talk.open()
                if opened.code < 300:
                    return [(address, talk.ask(f"VRFY <{address}>")) for address in addresses]
                why = f"kmqd says {opened.code} {opened.text}"
        except (OSError, Lost) as error:
            why = str(error)
        if time.monotonic() >= deadline:
            return NotNow(why)
        time.sleep(_PAUSE)
