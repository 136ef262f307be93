"""What is wrong with retry profiles and with the names of them.

Promise:  pure; findings as in `checks`.
Callers:  `reading`, which knows the lines.
"""

from collections.abc import Iterable, Iterator

from kmq.config.checks import Finding
from kmq.config.kinds import nearest
from kmq.config.retries import BUILT_IN, DOUBLING, RetrySection
from kmq.config.sections import ConnectorSection, QueueSection

_BUILT_IN = (DOUBLING, *BUILT_IN)


def mistakes(
    queue: QueueSection | None, connectors: Iterable[ConnectorSection], retries: Iterable[RetrySection]
) -> Iterator[Finding]:
    """What cannot be meant. queue: None when a value of it is wrong already."""
    retries = tuple(retries)
    known = (*_BUILT_IN, *(one.name for one in retries))
    if queue is not None and queue.retry_profile not in known:
        yield _unknown("queue", queue.retry_profile, known)
    for connector in connectors:
        if connector.retry_profile and connector.retry_profile not in known:
            yield _unknown(connector.name, connector.retry_profile, known)
    for one in retries:
        if one.name in _BUILT_IN:
            yield Finding(one.name, "", f"the profile {one.name} is built in: give this one another name")
        if one.warn_after >= one.bounce_after:
            text = "warn_after is not before bounce_after: nobody would be warned; write 0 if that is meant"
            yield Finding(one.name, "warn_after", text)


def _unknown(name: str, profile: str, known: tuple[str, ...]) -> Finding:
    text = f"there is no retry profile {profile!r}: there are {', '.join(known)}{nearest(profile, known)}"
    return Finding(name, "retry_profile", text)
