"""Are the files of [rewrite] in order?

Promise:  only looks. Mail for a connector whose addresses cannot be known waits, so that is wrong; a file that has a
          mistake is wrong too, since nobody can tell whether kmqd has read a good one before.
Callers:  admin.check.
"""

from collections.abc import Iterator

from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings
from kmq.config.address_maps import read
from kmq.routing.watched import UnreadableFile, read_text


def rewriting(settings: Settings) -> Iterator[Verdict]:
    """Each file once."""
    files: dict[str, str] = {}
    for one in settings.rewrites:
        for option in ("senders", "recipients", "addresses"):
            place = settings.origin(one.name, option).place
            files |= dict.fromkeys(getattr(one, option).files, f"{place}: [{one.name}] {option}")
    for path, place in files.items():
        yield _verdict(path, place)


def _verdict(path: str, place: str) -> Verdict:
    try:
        lines = read(read_text(path))
    except OSError as error:
        remedy = "make it, readable for kmqd's user; until then mail that it is for waits"
        return Verdict(Grade.WRONG, f"{place}: {path}: {error.strerror}", remedy)
    except UnreadableFile as error:
        return Verdict(Grade.WRONG, f"{place}: {path}: {error}", "a text file with lines PATTERN REPLACEMENT is needed")
    except ValueError as error:
        return Verdict(Grade.WRONG, f"{path}: {error}", "what it said before counts; if that was nothing, mail waits")
    return Verdict(Grade.GOOD, f"{len(lines):,} {'address' if len(lines) == 1 else 'addresses'} in {path}")
