"""Has this machine the addresses that connectors speak from, and when do those send that do not send at once?

Promise:  only looks: an address is tried by a socket that connects nowhere.
On crash: nothing is left.
Callers:  admin.check.
"""

import os
import socket
import time
from collections.abc import Iterator
from datetime import datetime

from kmq.admin.verdict import Grade, Verdict
from kmq.config import ConnectorSection, Settings
from kmq.run.timetable import Rule, machine_zone, next_opening, next_time, open_until, rule_of


def lines(settings: Settings) -> Iterator[Verdict]:
    """A verdict for each address, and for each timetable, of a connector that serves anybody."""
    for connector in settings.connectors:
        if connector.enabled:
            yield from _sources(connector)
            rule = rule_of(connector, settings.queue)
            if rule is not None:
                yield Verdict(Grade.GOOD, f"[{connector.name}] {_when(rule, time.time())}")


def _sources(connector: ConnectorSection) -> Iterator[Verdict]:
    for address in connector.source_address:
        name = f"[{connector.name}] source_address = {address}"
        why = _lacking(address)
        if why:
            remedy = "give the machine this address, or name one that it has; until then mail of this connector waits"
            yield Verdict(Grade.WRONG, f"{name} is no address of this machine: {why}", remedy)
        else:
            yield Verdict(Grade.GOOD, f"{name} is an address of this machine")


def _lacking(address: str) -> str:
    """Why nobody can speak from an address, "" when it can be done."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
            probe.bind((address, 0))
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    return ""


def _when(rule: Rule, now: float) -> str:
    """`offline, sends every 30m: next at 2026-11-22 16:30 UTC`."""
    zone = machine_zone()
    if not rule.offline:
        end = open_until(rule, now, zone)
        at, word = (end, "until") if end else (next_opening(rule, now, zone), "from")
        return f"works {rule}: {word} {_local(at)}"
    if not str(rule):
        return "offline: sends when it is asked for (ETRN, kmq flush)"
    return f"offline, sends {rule}: next at {_local(next_time(rule, now, zone))}"


def _local(at: float | None) -> str:
    return "never" if at is None else f"{datetime.fromtimestamp(at, machine_zone()):%Y-%m-%d %H:%M %Z}"
