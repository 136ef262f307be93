"""`kmq flush`: the next attempt of everything is made now.

Callers:  kmq.cli.kmq.
"""

from kmq.admin import client
from kmq.cli.answer import tell
from kmq.cli.call import Call
from kmq.model.outcome import RESULTS


def run(call: Call) -> int:
    """The verb."""
    reason = {"reason": call.arguments.reason} if call.arguments.reason else {}
    return tell(call, client.ask(call.settings.kmq.run_directory, "flush", reason), RESULTS["retry"])
