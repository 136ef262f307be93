"""`kmq reload`: kmqd reads its configuration again, and says what changed, or why nothing did.

Promise:  exit status 0 when the new configuration counts for all of kmqd's processes; 78 when it is wrong and the old
          one stays. What each line says was so when kmqd said it.
Callers:  kmq.cli.kmq.
"""

from collections.abc import Mapping

from kmq.admin import client
from kmq.admin.circumstances import text_of
from kmq.cli.call import DONE, Call
from kmq.errors import ConfigError
from kmq.view.words import harmless


def run(call: Call) -> int:
    """The verb."""
    try:
        run_directory = call.settings.kmq.run_directory
    except ConfigError:
        call.warn("kmqd is not asked to read this: the old configuration stays")
        raise
    response = client.ask(run_directory, "reload")
    lines = [line for line in response.lines if "Waiting" not in line]
    if call.json:
        call.tell_objects(lines)
    for line in lines:
        if "Problem" in line:
            call.warn(harmless(text_of(line, "Problem")))
        elif not call.json:
            call.tell([harmless(_shown(line))])
    if response.status == DONE and not call.json:
        call.tell([harmless(response.text)])
    elif response.text:
        call.warn(harmless(response.text))
    return response.status


def _shown(line: Mapping[str, object]) -> str:
    if "Warning" in line:
        return f"warning: {text_of(line, 'Warning')}"
    return f"{text_of(line, 'Option')}  {text_of(line, 'Counts')}"
