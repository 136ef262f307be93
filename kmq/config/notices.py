"""The options of [notices]: in which language senders are told what became of their mail.

Promise:  as in `kinds`: pure, and a language that is not spoken here is refused with those that are.
Callers:  `sections`; routing.languages, which chooses by them and reads the files.
"""

from kmq.config import address_maps, kinds
from kmq.config.address_maps import AddressMap, MapLine
from kmq.config.options import option, section
from kmq.languages.codes import CODES

_language = kinds.choice(*CODES)


def line(text: str) -> MapLine:
    """One line of a map of languages; ValueError when it is none."""
    words = text.split()
    if len(words) != 2:
        known = ", ".join(CODES)
        raise ValueError(
            f"{text!r} is no pattern and language: write user@example.org, user@, @example.org or @*.example.org, a"
            f" blank, and one of {known}"
        )
    return MapLine(address_maps.pattern(words[0]), _language.parse(words[1].lower()))


@section
class NoticesSection:
    """Notices: what senders are told of their mail, and in which language.

    Each notice is in one language, that of whoever it goes to: what `languages` says of his address; else what the
    header of his message asks for; else `language`. Its part for programs (RFC 3464) is the same in all of them, and
    what another server answered is quoted as it was said. What the postmaster gets is in the language of his address.
    """

    language: str = option(
        _language, default="en", doc="The language of all of whom nothing else is known: English, or `de`, `es`, `fr`."
    )
    languages: AddressMap = option(
        address_maps.address_map(line, "LANGUAGE"),
        default="",
        doc="Who is told in which language: a pattern, a blank, the language. Patterns are tried in this order:"
        " `user@example.org` (with what follows a `+`, then without), `user@` in every domain, `@example.org`,"
        " `@*.example.org` for all domains below it. A line may be `file:PATH`, a file of such lines in which `#`"
        " begins a comment; it is read again when it changes, and one that is not as it should be decides nothing.",
    )
    language_by_header: bool = option(
        kinds.yes_or_no(),
        default="yes",
        doc="Whether a message says in which language its sender is told: by the first of its `Accept-Language` that is"
        " spoken here, in the order of their `q`, else of its `Content-Language` (RFC 3282).",
    )
