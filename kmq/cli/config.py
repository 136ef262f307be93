"""`kmq config`: the configuration as it counts, with the place of each value; `--man` prints kmq.conf(5); `diff NEW`
says what another one would do to the queue.

Callers:  kmq.cli.kmq.
"""

from kmq.cli.call import DONE, Call


def run(call: Call) -> int:
    """The verb."""
    if call.arguments.what == "diff":
        from kmq.cli.config_diff import run as diff

        return diff(call)
    if call.arguments.man:
        from kmq.config.page import manual

        call.out.write(manual())
    elif call.json:
        origins = call.settings.origins.items()
        call.tell_objects(
            {"Section": section, "Option": option, "Value": origin.text, "Place": origin.place}
            for (section, option), origin in origins
            if option
        )
    else:
        from kmq.config import show

        call.out.write(show(call.settings))
    for warning in call.settings.warnings if not call.arguments.man else ():
        call.warn(f"warning: {warning}")
    return DONE
