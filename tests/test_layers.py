"""Imports point down, each foreign library has one home, and only the spool's own code writes in the spool."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

KMQ = Path(__file__).resolve().parents[1] / "kmq"

#: Lower may be imported by higher; siblings of one rank never import each other.
RANK = {
    "errors": 0,
    "jail": 1,
    "languages": 1,
    "model": 1,
    "config": 2,
    "log": 3,
    "spool": 4,
    "routing": 4,
    "intake": 5,
    "phases": 5,
    "run": 6,
    "admin": 7,
    "view": 8,
    "cli": 9,
}

#: Foreign library -> the one place that may import it; a trailing * stands for more of the name.
HOMES = {
    "aiosmtpd": "kmq/intake/carrier.py",
    "aiosmtplib": "kmq/phases/smtp*.py",
    "dns": "kmq/routing/resolver.py",
    "filelock": "kmq/spool/*.py",
    "msgspec": None,
    "uvloop": None,
    "watchdog": "kmq/spool/drop*.py",
}

#: What changes files by name: `module.function`, or a method that only paths have.
CHANGES = {
    *(f"os.{name}" for name in ("link", "makedirs", "mkdir", "remove", "rename", "renames", "replace", "rmdir")),
    *(f"os.{name}" for name in ("symlink", "truncate", "unlink", "mkfifo", "mknod")),
    *(f"shutil.{name}" for name in ("copy", "copy2", "copyfile", "copytree", "move", "rmtree")),
}
PATH_METHODS = {"write_text", "write_bytes", "touch", "hardlink_to", "symlink_to", "mkdir", "rmdir", "unlink", "chmod"}
#: What the spool's own code is called where it is handed to others.
SPOOL_S_OWN = {"disk", "_disk"}
WRITING_FLAGS = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"}

#: Who changes files outside kmq/spool, and which.
WRITERS = {
    "kmq/phases/examining.py": "a file without a name, for a part that is decoded",
    "kmq/phases/examiner_child.py": "a file without a name, for archives that are looked into",
    "kmq/log/outlet.py": "its own standard error, opened once more, and the mail log",
    "kmq/log/tracking_files.py": "the tracking log",
    "kmq/cli/deliver.py": "its own socket",
    "kmq/cli/letter.py": "a file without a name, for a large message on its way to kmqd",
    "kmq/admin/doctor_disk.py": "a file without a name, to see how long a sync takes",
    "kmq/admin/poison.py": "a copy of a message, in a folder for temporary files, for a trial",
    "kmq/admin/archived.py": "a copy of an archived message on its way, in a folder for temporary files",
    "kmq/admin/exporting.py": "copies of messages, in a folder that the operator names",
    "kmq/admin/rules_trial.py": "a folder for temporary files, for an examiner",
    "kmq/cli/alone.py": "the run directory, for the lock",
    "kmq/phases/deposit.py": "archived mail outside the spool",
    "kmq/phases/maildir.py": "mailboxes",
    "kmq/phases/maildir_quota.py": "what is in a mailbox",
    "kmq/phases/mbox.py": "mailboxes",
    "kmq/phases/mbox_lock.py": "the file that locks a mailbox",
    "kmq/phases/storing.py": "the folders of mailboxes",
    "kmq/phases/agent_file.py": "copies of messages that programs read, in a folder of their own",
    "kmq/phases/drop_folder.py": "folders of gateways",
    "kmq/run/ground.py": "the folders of spool and run directory themselves",
    "kmq/run/listeners.py": "sockets in the run directory",
}

MODULES = sorted(KMQ.rglob("*.py"))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def named(path: Path) -> str:
    return str(path.relative_to(KMQ.parent))


def layer(path: Path) -> str:
    return path.relative_to(KMQ).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, full name) of all that a module imports, at its top or within its functions."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{named(path)}:{node.lineno} imports by dots: write the full name"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("path", [path for path in MODULES if path.parent != KMQ or path.stem != "__init__"], ids=named)
def test_imports_point_down(path):
    here = layer(path)
    assert here in RANK, f"{named(path)} is in no layer: see docs/ARCHITECTURE.md"
    for line, name in imported(path):
        if name.startswith("kmq.") and (there := name.split(".")[1]) != "__version__":
            assert there == here or RANK[there] < RANK[here], f"{named(path)}:{line} must not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_foreign_library_is_imported_in_its_home_alone(path):
    for line, name in imported(path):
        library = name.split(".")[0]
        if library == "kmq" or library in sys.stdlib_module_names:
            continue
        assert library in HOMES, f"{named(path)}:{line} imports {library}, which no part of kmq is built on"
        home = HOMES[library]
        assert home is None or path.match(home), f"{named(path)}:{line} imports {library}: only {home} does"


def test_one_module_imports_each_foreign_library():
    for library in (library for library, home in HOMES.items() if home):
        found = [named(path) for path in MODULES if any(name.split(".")[0] == library for _, name in imported(path))]
        assert len(found) <= 1, f"{library} is imported by {' and '.join(found)}"


def changes(path: Path) -> Iterator[str]:
    """Every call that makes, changes or removes a file, as `line: call`."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and _writes(node):
            yield f"{named(path)}:{node.lineno} {ast.unparse(node)[:80]}"


def _writes(call: ast.Call) -> bool:
    name = ast.unparse(call.func)
    if call.args and ast.unparse(call.args[0]) == "os.devnull":
        return False
    of, _, method = name.rpartition(".")
    if name in CHANGES or (method in PATH_METHODS and of.rpartition(".")[2] not in SPOOL_S_OWN):
        return True
    if name == "os.open":
        return any(isinstance(node, ast.Attribute) and node.attr in WRITING_FLAGS for node in ast.walk(call))
    if name in ("open", "os.fdopen"):
        return _mode(call, 1)
    return name.endswith(".open") and _mode(call, 0)


def _mode(call: ast.Call, place: int) -> bool:
    """True when the mode, an argument at this place or by name, is one for writing."""
    modes = [*call.args[place : place + 1], *(one.value for one in call.keywords if one.arg == "mode")]
    return any(isinstance(mode, ast.Constant) and set(str(mode.value)) & set("wax+") for mode in modes)


@pytest.mark.parametrize("path", [path for path in MODULES if layer(path) != "spool"], ids=named)
def test_only_the_spool_s_own_code_changes_files(path):
    found = list(changes(path))
    if named(path) in WRITERS:
        assert found, f"{named(path)} changes no files any more: take it off the list of writers"
    else:
        assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "writes"),
    [
        ("open(name)", False),
        ("open(name, 'rb')", False),
        ("open(name, 'w')", True),
        ("open(name, mode='ab')", True),
        ("open(name, 'r+b')", True),
        ("open('wax', 'r')", False),
        ("open(os.devnull, 'w')", False),
        ("path.open('x')", True),
        ("os.open(name, os.O_RDONLY | os.O_CLOEXEC)", False),
        ("os.open(name, os.O_WRONLY | os.O_CREAT)", True),
        ("os.open(name, flags=os.O_RDWR)", True),
        ("path.write_text('')", True),
        ("os.rename(a, b)", True),
        ("text.replace('a', 'b')", False),
        ("path.unlink()", True),
        ("self._disk.unlink(name)", False),
        ("os.replace(a, b)", True),
        ("shutil.rmtree(a)", True),
    ],
)
def test_the_test_itself_knows_writing_from_reading(code, writes):
    assert _writes(ast.parse(code, mode="eval").body) is writes
