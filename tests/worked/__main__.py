"""python -m tests.worked DOCUMENT ...: plays the examples of a document and writes their real output into it.

Whoever changes what a command prints runs this, and reads the difference before it is committed.
"""

import sys
import tempfile
from pathlib import Path

from tests.worked.reading import acts
from tests.worked.sameness import difference
from tests.worked.scenes import SCENES


def rewrite(path: Path) -> None:
    """Puts the real output where the document's differs; `...` of the document stays where it still fits."""
    lines = path.read_text().splitlines()
    changes: list[tuple[int, int, list[str]]] = []
    for act in acts(path):
        with tempfile.TemporaryDirectory() as folder, SCENES[act.scene](Path(folder)) as scene:
            for example in act.examples:
                real = scene.run(example.command)
                if difference(example.output, real):
                    changes.append((example.first, example.last, [_written(line, path) for line in real]))
    for first, last, real in reversed(changes):
        lines[first:last] = real
    path.write_text("\n".join(lines) + "\n")
    print(f"{path}: {len(changes)} outputs written")


def _written(line: str, path: Path) -> str:
    if path.suffix == ".md":
        return line
    line = line.replace("\\", "\\e")
    return "\\&" + line if line.startswith((".", "'")) else line


for name in sys.argv[1:]:
    rewrite(Path(name))
