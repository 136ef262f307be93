"""A configuration that is read again: what counts at once is taken, what needs a restart stays as it is.

Promise:  a configuration is taken whole or not at all. It is read once, by the supervisor, and handed to everybody
          (inheritance, changeover): all processes of one kmqd work by the same one, in one spool, also those that are
          begun after the file was changed again.
On crash: the next kmqd reads the file as it is.
Callers:  the supervisor.
"""

import dataclasses
from typing import Any

from kmq.config import Settings
from kmq.config.certificates import require
from kmq.config.sections import KINDS, OPTIONS
from kmq.run import drop_ground

_KIND_OF: dict[type, str] = {declared: kind for kind, declared in KINDS.items()}


def accepted(old: Settings, new: Settings) -> Settings:
    """`applied`; ConfigError when a certificate of `new` cannot be used, SpoolError for a drop directory."""
    require(new)
    now = applied(old, new)
    drop_ground.require(now)
    return now


def applied(old: Settings, new: Settings) -> Settings:
    """`new`, with the old values of options that need a restart. Sections with a name come and go as they are."""
    kept: dict[str, Any] = {}
    for field in dataclasses.fields(Settings):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if type(after) in _KIND_OF:
            kept[field.name] = _kept(before, after)
        elif isinstance(after, tuple) and field.name != "warnings":
            known = {section.name: section for section in before}
            kept[field.name] = tuple(_kept(known.get(section.name, section), section) for section in after)
    if new.kmq.spool != old.kmq.spool:  # they may lie in it, and it stays where it is
        for name in ("pickup", "replay"):
            kept[name] = dataclasses.replace(kept[name], directory=getattr(old, name).directory)
    return dataclasses.replace(new, **kept)


def _kept(old: Any, new: Any) -> Any:
    """`new`, of the same kind as `old`, with what `old` has of the options that need a restart."""
    options = OPTIONS[_KIND_OF[type(new)]].values()
    return dataclasses.replace(new, **{one.name: getattr(old, one.name) for one in options if one.restart})
