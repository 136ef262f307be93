"""One call of a program: its arguments, its configuration, and where its words go.

Promise:  what a verb needs is read when it asks for it, so that a call that needs little takes milliseconds.
Callers:  kmq.cli.
"""

import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TextIO

from kmq.config import Settings, load_or_embedded
from kmq.config.embedded import PATH as EMBEDDED_PATH
from kmq.view.table import Page, page_of
from kmq.view.words import harmless_lines

if TYPE_CHECKING:
    from kmq.admin.circumstances import Circumstances

DONE, REFUSED, USAGE = 0, 1, 2


@dataclass
class Call:
    """arguments: as parsed; json: one object per line instead of tables; out: where answers go."""

    arguments: Namespace
    json: bool
    out: TextIO

    @cached_property
    def settings(self) -> Settings:
        """The configuration; ConfigError when it is wrong."""
        return load_or_embedded(self.arguments.config)

    @property
    def configuration(self) -> str:
        """The path of the configuration, "" when it is the one that needs no file."""
        return "" if self.settings.path == EMBEDDED_PATH else self.settings.path

    @cached_property
    def page(self) -> Page:
        """The terminal, or an endless page."""
        return page_of(self.out)

    def around(self) -> "Circumstances":
        """The circumstances as they are now."""
        from kmq.admin.circumstances import gather

        section = self.settings.kmq
        return gather(section.hostname, section.spool, section.run_directory)

    def tell(self, lines: Iterable[str]) -> None:
        """Prints lines as they come."""
        self.out.writelines(f"{line}\n" for line in lines)

    def tell_objects(self, objects: Iterable[Mapping[str, object]]) -> None:
        """Prints one object per line; ASCII only, so that nothing in it reaches a terminal's ear."""
        import json  # 3 ms that a table need not cost

        encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode
        self.tell(encode(one).replace("\x7f", "\\u007f") for one in objects)

    def warn(self, text: str) -> None:
        """A word to the person, beside the answer and after what was told of it; what it quotes is made harmless."""
        self.out.flush()
        print(f"kmq: {harmless_lines(text)}", file=sys.stderr)
