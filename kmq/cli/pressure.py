"""`kmq pressure`: what kmqd may run short of, how short it is, and what it refuses therefore.

Callers:  kmq.cli.kmq.
"""

from kmq.admin import client
from kmq.cli.call import DONE, REFUSED, Call
from kmq.view.pressure import pressure


def run(call: Call) -> int:
    """The verb."""
    response = client.ask(call.settings.kmq.run_directory, "pressure")
    if call.json:
        call.tell_objects(response.lines)
    else:
        call.tell(pressure(response.lines, call.page))
        call.tell([response.text[:1].upper() + response.text[1:]])
    return DONE if response.status == DONE else REFUSED
