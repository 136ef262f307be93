"""Sets of recipients, by index, as text: `0-2,5`. An event of a thousand recipients names them in five characters."""

from collections.abc import Iterable


def as_text(indices: Iterable[int]) -> str:
    """`[0, 1, 2, 5]` -> `0-2,5`; the order of the input does not matter, "" is the empty set."""
    out: list[str] = []
    first = last = -2
    for index in sorted(set(indices)):
        if index != last + 1:
            if last >= 0:
                out.append(f"{first}-{last}" if last > first else f"{first}")
            first = index
        last = index
    if last >= 0:
        out.append(f"{first}-{last}" if last > first else f"{first}")
    return ",".join(out)


def from_text(text: str) -> tuple[int, ...]:
    """`0-2,5` -> `(0, 1, 2, 5)`; ValueError for anything else. Bounded: no envelope has 100,000 recipients."""
    if text == "0":
        return (0,)
    out: list[int] = []
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        low, high = int(first), int(last or first)
        if not 0 <= low <= high < 100_000:
            raise ValueError(f"{text[:40]!r} is not a set of recipients")
        out.extend(range(low, high + 1))
    return tuple(out)
