"""Are the files of [notices] in order?

Promise:  only looks. No mail waits for them: without them people are told in another language.
Callers:  admin.check.
"""

from collections.abc import Iterator

from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings
from kmq.config.address_maps import read
from kmq.config.notices import line
from kmq.routing.watched import UnreadableFile, read_text

_ELSE = "until then it decides nobody's language, or what it said before"


def languages(settings: Settings) -> Iterator[Verdict]:
    """Each file once."""
    place = settings.origin("notices", "languages").place
    for path in settings.notices.languages.files:
        yield _verdict(path, f"{place}: [notices] languages")


def _verdict(path: str, place: str) -> Verdict:
    try:
        lines = read(read_text(path), line)
    except OSError as error:
        return Verdict(Grade.WRONG, f"{place}: {path}: {error.strerror}", f"make it, readable for kmqd's user; {_ELSE}")
    except UnreadableFile as error:
        return Verdict(Grade.WRONG, f"{place}: {path}: {error}", "a text file with lines PATTERN LANGUAGE is needed")
    except ValueError as error:
        return Verdict(Grade.WRONG, f"{path}: {error}", _ELSE)
    return Verdict(Grade.GOOD, f"languages of {len(lines):,} {'address' if len(lines) == 1 else 'addresses'} in {path}")
