"""Do the resolvers answer that connectors of type dns ask?

Promise:  asks each of them once, for what every resolver knows, all at the same time; looks at nothing else.
On crash: nothing is left.
Callers:  admin.check.
"""

from collections.abc import Iterator

from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings
from kmq.config.kinds import DNS_PORT, Endpoint, write_endpoint

PATIENCE = 3.0  #: seconds that a resolver has to answer


def dns(settings: Settings) -> Iterator[Verdict]:
    """A verdict for each resolver; nothing where no connector asks one."""
    if not any(one.type == "dns" for one in settings.connectors):
        return
    from kmq.routing.resolver import Fault, Resolver, probe  # 85 ms that nobody else needs

    kmq = settings.kmq
    servers = Resolver(kmq.dns_servers, PATIENCE).servers
    place = "dns_servers" if kmq.dns_servers else "/etc/resolv.conf"
    answers = probe(servers, min(PATIENCE, kmq.dns_timeout))
    silent = [(server, found.why) for server, found in answers if isinstance(found, Fault)]
    for server, _ in answers:
        if server not in dict(silent):
            yield Verdict(Grade.GOOD, f"resolver {_shown(server)} answers")
    grade = Grade.WRONG if len(silent) == len(answers) else Grade.NOTE
    for server, why in silent:
        remedy = f"name a resolver that answers in {place}; until one does, mail of type = dns waits (4.4.3)"
        yield Verdict(grade, f"resolver {_shown(server)} of {place} does not answer: {why}", remedy)


def _shown(server: Endpoint) -> str:
    return server[0] if server[1] == DNS_PORT else write_endpoint(*server)
