"""`kmq poison list` and `kmq poison test ID`: what was set aside, why, and whether a phase would fail on it again.

Promise:  looks only (admin.poison). Exit status of a test: 0 when every phase passed, else 1.
Callers:  kmq.cli.kmq.
"""

from kmq.admin import poison
from kmq.admin.confinement import Ending, Fate, Limits
from kmq.admin.poison import Case
from kmq.cli.call import DONE, REFUSED, USAGE, Call
from kmq.model.phase import Phase
from kmq.view.poison import cases, harmless_now, tried


def run(call: Call) -> int:
    """The verb."""
    if call.arguments.what == "list":
        return _list(call)
    if not call.arguments.id:
        call.warn("poison test needs the ID of a message (kmq poison list shows them)")
        return USAGE
    return max([_test(call, one.id) for one in call.arguments.id])


def _list(call: Call) -> int:
    if call.arguments.id:
        call.warn("poison list takes no ID")
        return USAGE
    found = list(poison.cases(call.settings.kmq.spool))
    if call.json:
        call.tell_objects(map(_object, found))
    else:
        call.tell(cases(found, call.page))
    return DONE


def _object(case: Case) -> dict[str, object]:
    return {
        "ID": case.id,
        "Size": case.size,
        "FromAddress": case.sender,
        "Recipients": case.recipients,
        "Since": case.since or None,
        "Reason": case.reason or None,
        "Phase": case.phase or None,
        "CrashCount": case.crashes,
        "Trace": case.trace or None,
    }


def _test(call: Call, name: str) -> int:
    limits = Limits(call.arguments.seconds, call.arguments.memory)
    passed = True
    for phase in _phases(call, name):
        ending = poison.trial(call.settings, name, phase, limits)
        passed = passed and ending.fate is Fate.PASSED
        if call.json:
            call.tell_objects([_verdict(name, phase, ending)])
        else:
            call.tell(tried(name, phase.value, ending))
    if passed and not call.json and poison.is_set_aside(call.settings.kmq.spool, name):
        call.tell([harmless_now(name)])
    return DONE if passed else REFUSED


def _phases(call: Call, name: str) -> list[Phase]:
    if call.arguments.phase:
        return [call.arguments.phase]
    return poison.suspected(call.settings.kmq.spool, name)


def _verdict(name: str, phase: Phase, ending: Ending) -> dict[str, object]:
    return {
        "ID": name,
        "Phase": phase.value,
        "Result": ending.fate.value,
        "Cause": ending.cause or None,
        "Trace": ending.trace or None,
        "Said": ending.said,
        "Seconds": round(ending.took, 3),
        "NotConfined": list(ending.lacking),
    }
