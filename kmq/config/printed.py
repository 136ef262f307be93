"""The configuration as it counts on this machine, and what a new one changes.

Promise:  what `show` prints is a configuration that gives the same settings.
Callers:  `kmq config`; kmqd, to tell what a reload leaves as it was.
"""

from collections.abc import Iterator
from pathlib import Path

from kmq.config.address_maps import AddressMap
from kmq.config.kinds import parts
from kmq.config.rows import Rows
from kmq.config.sections import OPTIONS, SINGLE, Settings

_WIDTH = 44


def _sections_of(settings: Settings) -> Iterator[tuple[str, str, object]]:
    """(kind, name, section) of all that the settings hold."""
    yield "kmq", "kmq", settings.kmq
    yield "queue", "queue", settings.queue
    yield "back_pressure", "back_pressure", settings.back_pressure
    yield "backup", "backup", settings.backup
    yield "notices", "notices", settings.notices
    yield "sendmail", "sendmail", settings.sendmail
    yield "pickup", "pickup", settings.pickup
    yield "replay", "replay", settings.replay
    yield "content", "content", settings.content
    for receiver in settings.receivers:
        yield "receiver", receiver.name, receiver
    for connector in settings.connectors:
        yield "connector", connector.name, connector
    for retry in settings.retries:
        yield "retry", retry.name, retry
    for rewrite in settings.rewrites:
        yield "rewrite", rewrite.name, rewrite
    for scanner in settings.scanners:
        yield "scanner", scanner.name, scanner
    for milter in settings.milters:
        yield "milter", milter.name, milter
    for rule in settings.rules:
        yield "rule", rule.name, rule
    for attachment in settings.attachments:
        yield "attachment", attachment.name, attachment


# --- as it counts ----------------------------------------------------------------------------------------------------


def show(settings: Settings) -> str:
    """Every option of settings that were read, with its place in the file; inheritance and `${...}` are done."""
    lines = [f"; {settings.path}"]
    for kind, name, section in _sections_of(settings):
        lines += ["", f"[{name}]" if kind in SINGLE else f"[{name} : {kind}]"]
        for option in OPTIONS[kind].values():
            origin = settings.origin(name, option.name)
            if isinstance(option.kind, Rows):
                lines.append(f"{f'{option.name} =':<{_WIDTH}} ; {origin.place}")
                lines += [f"    {row}".replace("$", "$$") for row in origin.text.split("\n") if row]
                continue
            value = _text(getattr(section, option.name), origin.text)
            lines.append(f"{f'{option.name} = {value}':<{_WIDTH}} ; {origin.place}")
    return "\n".join(lines) + "\n"


def _text(value: object, written: str) -> str:
    """A value as text for the file. A path is whole now, and so is the postmaster; all else is as it was written."""
    text = value.text if isinstance(value, AddressMap) else str(value) if isinstance(value, str | Path) else written
    if "\n" in text:
        text = ", ".join(parts(text))
    return text.replace("$", "$$")


def changes(old: Settings, new: Settings, restart: bool = False) -> list[str]:
    """The options that changed, as `[mx] listen`; of a section that came or went only that: `[mx] (new section)`.

    restart: those alone that count only when kmqd is started anew.
    """
    before, after = _values(old, restart), _values(new, restart)
    old_names, new_names = {name for name, _ in before}, {name for name, _ in after}
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]

    def shown(name: str, option: str) -> str:
        if name not in old_names:
            return f"[{name}] (new section)"
        return f"[{name}] {option}" if name in new_names else f"[{name}] (no such section any more)"

    return list(dict.fromkeys(shown(*key) for key in changed))


def restart_needed(old: Settings, new: Settings) -> list[str]:
    """The options that changed and count only when kmqd is started anew."""
    return changes(old, new, restart=True)


def _values(settings: Settings, restart: bool) -> dict[tuple[str, str], object]:
    return {
        (name, option.name): getattr(section, option.name)
        for kind, name, section in _sections_of(settings)
        for option in OPTIONS[kind].values()
        if option.restart or not restart
    }
