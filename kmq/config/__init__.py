"""The configuration: one INI file, read once at the start of each program, kmq.conf(5).

Promise:  `load` returns Settings whose every value was looked at, or raises ConfigError with all mistakes, each with
          file, line, and what would be right. Settings and sections are frozen; they are handed over in pieces.
On crash: nothing is written, so nothing is left.
Callers:  the programs in cli and run at their start, and kmqd on reload. All others are handed their own section.

Drawing:  ini -> inheritance -> filling -> kinds -> checks -> Settings
          (lines)  (which text)  (${...})  (values) (together)
          `sections` declares every option; `reading` leads through the steps; `printed` shows what came
          of them, and `page` is the manual.
"""

from kmq.config.embedded import EMBEDDED
from kmq.config.printed import changes, restart_needed, show
from kmq.config.reading import embedded, load, load_or_embedded, read
from kmq.config.sections import (
    BackPressureSection,
    ConnectorSection,
    KmqSection,
    NoticesSection,
    Origin,
    PickupSection,
    QueueSection,
    ReceiverSection,
    ReplaySection,
    SendmailSection,
    Settings,
)

__all__ = [
    "EMBEDDED",
    "BackPressureSection",
    "ConnectorSection",
    "KmqSection",
    "NoticesSection",
    "Origin",
    "PickupSection",
    "QueueSection",
    "ReceiverSection",
    "ReplaySection",
    "SendmailSection",
    "Settings",
    "changes",
    "embedded",
    "load",
    "load_or_embedded",
    "read",
    "restart_needed",
    "show",
]
