"""`kmq flush`: the next attempt of everything is made now.

Callers:  kmq.cli.kmq.
"""

from kmq.admin import client
from kmq.cli.act import tell
from kmq.cli.call import Call


def run(call: Call) -> int:
    """The verb."""
    return tell(call, client.ask(call.settings.kmq.run_directory, "flush"))
