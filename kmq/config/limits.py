"""Kinds of values for limits: numbers that are left to another section, and parts of a hundred.

Promise:  as in `kinds`.
Callers:  `sections`, `connector`.
"""

from kmq.config.kinds import Kind, parts, whole

_CLASSES = ("high", "normal", "low")


def own_whole(least: int, most: int) -> Kind[int | None]:
    """A whole number, or None when it is left to another section."""
    inner = whole(least, most)
    return Kind(f"{inner.shape}, or nothing", lambda text: inner.parse(text) if text else None)


def percentages() -> Kind[tuple[int, int, int]]:
    """Parts of a hundred for high, normal and low priority."""
    inner = whole(1, 100)

    def parse(text: str) -> tuple[int, int, int]:
        found = [inner.parse(part.removesuffix("%").strip()) for part in parts(text)]
        if len(found) != len(_CLASSES):
            raise ValueError(
                f"{text!r} does not have three numbers: write those of {', '.join(_CLASSES)} as 15, 75, 10"
            )
        return found[0], found[1], found[2]

    return Kind("three whole numbers from 1 to 100", parse)
