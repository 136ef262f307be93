"""Which command lines only look, so that kmqd may carry them out for who cannot read the files himself.

Promise:  what is not named here is refused: a verb, or an option, that writes, acts, or opens a file by name. The words
          are judged as the parser has understood them, by who carries them out (cli.behalf).
Callers:  cli.behalf, cli.afar.
"""

from argparse import Namespace

#: Verbs that look and do nothing else, whatever their options.
ALWAYS = frozenset({"mailq", "queues", "sql", "processes", "show", "history", "explain", "track", "digest"})

#: Verbs that only look with --what-if.
FORESEEN = frozenset({"suspend", "resume", "retry", "resubmit", "redirect", "remove", "replay"})


def objection(arguments: Namespace) -> str:
    """Why this is more than looking, as a sentence; "" when it is not."""
    verb = arguments.verb
    if verb in ALWAYS:
        return ""
    if verb == "replay" and arguments.list:
        return ""
    if verb not in FORESEEN:
        return f"{verb} is for who may read the files of the queue: ask as root or as the user that kmqd runs as"
    if not arguments.what_if:
        return f"{verb} acts: kmqd only looks for somebody else (--what-if)"
    if getattr(arguments, "ids_from", None) is not None:
        return "--ids-from names a file, which kmqd does not read for somebody else: name the IDs"
    return ""
