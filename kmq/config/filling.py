"""Filling in `${option}` and `${section:option}`: configparser's extended interpolation.

Promise:  a text is filled in as the section sees it that inherits it; defaults can be named like written values, and
          so can `${machine:name}`, what this machine calls itself.
"""

from collections.abc import Mapping
from configparser import ExtendedInterpolation, InterpolationDepthError, InterpolationError, RawConfigParser

from kmq.config.inheritance import MACHINE

_DOLLAR = "a $ stands alone: write ${option} or ${section:option} for a value, $$ for a dollar sign"


class Filling:
    """The texts of all sections, for reference to each other. texts: section -> option -> text."""

    def __init__(self, texts: Mapping[str, Mapping[str, str]], machine: str) -> None:
        # No section can have the empty name, so none is configparser's own section of defaults.
        self._parser = RawConfigParser(interpolation=ExtendedInterpolation(), default_section="")
        self._wrong: set[tuple[str, str]] = set()
        for section, options in {**texts, MACHINE: {"name": machine}}.items():
            self._parser.add_section(section)
            for option, text in options.items():
                self._set(section, option, text)

    def _set(self, section: str, option: str, text: str) -> None:
        try:
            self._parser.set(section, option, text)
        except ValueError:
            self._wrong.add((section, option))

    def text(self, section: str, option: str) -> str:
        """The text of an option with all references filled in; ValueError says what is wrong with them."""
        if (section, option) in self._wrong:
            raise ValueError(_DOLLAR)
        try:
            return self._parser.get(section, option)
        except InterpolationDepthError:
            raise ValueError(f"{option} refers to itself, or through too many others") from None
        except InterpolationError as wrong:
            raise ValueError(_explain(wrong)) from None


def _explain(wrong: InterpolationError) -> str:
    reference = getattr(wrong, "reference", "")
    if reference in ("user", "domain"):
        return f"${{{reference}}} names no option: for the {reference} of a mailbox write {{{reference}}} without $"
    if reference:
        return f"${{{reference}}} names no option: write ${{option}} of this section, or ${{section:option}}"
    return _DOLLAR
