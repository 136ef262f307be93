"""What all runs of a benchmark stand on: a stranger's programs, a folder on the disk that is measured, the MTAs."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.mta import Mta, Ways
from tests.postfix import Postfix as Programs


class Length(NamedTuple):
    """How long a row takes. seconds: of a load; single: messages while idle; deferred: messages that wait."""

    seconds: float
    single: int
    deferred: int


class Ground:
    """makers: by the names of MTAs, what makes one in a folder."""

    def __init__(
        self, programs: Programs, folder: Path, length: Length, makers: Mapping[str, Callable[[Path, Ways], Mta]]
    ) -> None:
        self.programs = programs
        self.length = length
        self._folder = folder
        self._makers = makers

    def maker(self, name: str, folder: Path) -> Callable[[Ways], Mta]:
        """Makes the MTA of that name in that folder."""
        return lambda ways: self._makers[name](folder, ways)

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A fresh folder; the disk is quiet before and after. It stays when the run fails: its log may say why."""
        folder = Path(tempfile.mkdtemp(prefix="bench.", dir=self._folder))
        folder.chmod(0o755)  # Postfix's own user has to come through
        os.sync()
        try:
            yield folder
        except BaseException:
            print(f"this run failed; what it left lies in {folder}", file=sys.stderr)
            raise
        shutil.rmtree(folder)
        os.sync()
