"""The kind of value that is a GUID, and what is wrong with those of several sections.

Promise:  as in `kinds`.
Callers:  connector, checks.
"""

from collections.abc import Iterable, Iterator

from kmq.config.kinds import Kind


def _guid(text: str) -> str:
    if not text:
        return ""
    import uuid  # 3 ms that few configurations need

    try:
        found = uuid.UUID(text)
    except ValueError:
        raise ValueError(f"{text!r} is no GUID; one such as 4520e633-d83d-411a-bbe4-6a84648674ee is needed") from None
    if not found.int:
        raise ValueError("the GUID of zeros stands for no connector")
    return str(found)


def guid() -> Kind[str]:
    """A GUID in its usual form, or nothing."""
    return Kind("GUID, or nothing", _guid)


def twice(sections: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(name, name of an earlier section that bears the same GUID), of (name, GUID) each."""
    first: dict[str, str] = {}
    for name, bears in sections:
        if bears and first.setdefault(bears, name) != name:
            yield name, first[bears]
