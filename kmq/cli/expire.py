"""`kmq expire`: mail whose time is over may be given up, although it is so much that expiry was stopped.

Callers:  kmq.cli.kmq.
"""

from kmq.admin import client
from kmq.cli.answer import tell
from kmq.cli.call import Call


def run(call: Call) -> int:
    """The verb."""
    return tell(call, client.ask(call.settings.kmq.run_directory, "overdue" if call.arguments.what_if else "expire"))
