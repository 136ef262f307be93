"""Can the programs of agents and pipes be begun, and can files be put into the folders of gateways?

Promise:  only looks, as the user who asks; what kmqd's user may is told where it can be seen from the modes.
Callers:  admin.check.
"""

import os
import stat
from collections.abc import Iterator

from kmq.admin.verdict import Grade, Verdict
from kmq.config import ConnectorSection, Settings
from kmq.config.way_out import drop_directory, in_spool


def ways(settings: Settings) -> Iterator[Verdict]:
    """Each connector of type agent, pipe or foreign."""
    for section in settings.connectors:
        if section.type in ("agent", "pipe") and section.as_user == "no":
            yield _program(settings, section)
        elif section.type == "foreign":
            yield _folder(settings, section)


def _program(settings: Settings, section: ConnectorSection) -> Verdict:
    path = section.command[0]
    what = f"{settings.origin(section.name, 'command').place}: [{section.name}] command = {path}"
    try:
        found = os.stat(path)
    except OSError as error:
        return Verdict(Grade.WRONG, f"{what}: {error.strerror}", "install it, or name another one; its mail waits")
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & 0o111 or not os.access(path, os.X_OK):
        return Verdict(Grade.WRONG, f"{what}: it cannot be run", f"chmod +x {path}, if it is a program; its mail waits")
    if found.st_mode & stat.S_IWOTH:
        return Verdict(Grade.WRONG, f"{what}: everybody may change it, and it runs as kmqd", f"chmod o-w {path}")
    return Verdict(Grade.GOOD, f"[{section.name}] {path}")


def _folder(settings: Settings, section: ConnectorSection) -> Verdict:
    path = drop_directory(section, settings.kmq.spool)
    what = f"{settings.origin(section.name, 'drop_directory').place}: [{section.name}] drop_directory = {path}"
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        if in_spool(path, settings.kmq.spool):
            return Verdict(Grade.GOOD, f"[{section.name}] {path}: kmqd makes it")
        return Verdict(Grade.WRONG, f"{what}: it is missing", f"make it: install -d -m 2770 {path}; its mail waits")
    except OSError as error:
        return Verdict(Grade.WRONG, f"{what}: {error.strerror}", "its mail waits")
    if not stat.S_ISDIR(found.st_mode):
        return Verdict(
            Grade.WRONG, f"{what}: it is a link, or no directory", "name the directory itself; its mail waits"
        )
    if not os.access(path, os.W_OK | os.X_OK):
        return Verdict(Grade.WRONG, f"{what}: it cannot be written", "give it to kmqd's user, or to a group of his")
    if found.st_mode & stat.S_IROTH:
        return Verdict(Grade.NOTE, f"{what}: everybody sees what waits there", f"chmod o-rwx {path}")
    return Verdict(Grade.GOOD, f"[{section.name}] {path}")
