"""The GUIDs of connectors: Exchange's NextHopConnector, the same through restarts and through a renaming.

Does:     gives each connector of the configuration a GUID when it is first seen. A connector whose name is gone, and
          one that is new and is the same way out (type, hosts, address spaces, and nobody else is), are one that was
          renamed; so are two whose option `guid` says so.
Promise:  `take` is pure; `keep` is durable when it returns. The former names of a connector lead to it until another
          bears them.
On crash: what was not kept is found out again from the same configuration; a connector that was new gets another GUID.
Callers:  run.operators at a start and with each configuration, run.operators_queues.
"""

import uuid
from collections import Counter
from collections.abc import Iterable

import msgspec

from kmq import log
from kmq.config import ConnectorSection
from kmq.config.kinds import write_endpoint
from kmq.model.hop import NO_GUID
from kmq.spool import kept
from kmq.spool.disk import Disk

#: Former names of a connector that are remembered.
_FORMER = 10


class Known(msgspec.Struct, omit_defaults=True):
    """A connector as it was seen last. way: its way out, as text."""

    name: str
    guid: str
    way: str
    former: list[str] = []


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Known).decode


class Identities:
    """Those of a spool."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._known: dict[str, Known] = {}
        texts, damaged = kept.read(disk, kept.CONNECTORS)
        for text in texts:
            try:
                one = _decode(text)
            except msgspec.MsgspecError:
                damaged += 1
            else:
                self._known[one.name] = one
        if damaged:
            log.error("state/connectors is damaged: connectors that it named get other GUIDs", lines=damaged)

    def of(self, connector: str) -> str:
        """The GUID of a connector; zeros for none, and for one that nobody knows."""
        known = self._known.get(connector)
        return known.guid if known is not None else NO_GUID

    @property
    def former(self) -> dict[str, str]:
        """Former name -> the name that the connector bears now."""
        return {old: one.name for one in self._known.values() for old in one.former if old not in self._known}

    def take(self, connectors: Iterable[ConnectorSection]) -> tuple[dict[str, str], bool]:
        """The connectors of a configuration: (old name -> new name of those renamed, whether `keep` is due)."""
        sections = {one.name: one for one in connectors}
        renamed = self._renamed(sections)
        before = {new: self._known[old] for old, new in renamed.items()}
        known: dict[str, Known] = {}
        for name, section in sections.items():
            found = self._known.get(name) or before.get(name)
            guid = section.guid or (found.guid if found else str(uuid.uuid4()))
            former = [] if found is None else found.former
            if name in before:
                former = [*former[1 - _FORMER :], before[name].name]
            known[name] = Known(name, guid, _way(section), [old for old in former if old not in sections])
        gone = {name: one for name, one in self._known.items() if name not in known and name not in renamed}
        changed = {**gone, **known} != self._known
        self._known = {**gone, **known}
        return renamed, changed

    def keep(self) -> None:
        """Durably, what is known. OSError when the disk does not take it."""
        kept.replace(self._disk, kept.CONNECTORS, [_encode(one) for one in self._known.values()])

    def _renamed(self, sections: dict[str, ConnectorSection]) -> dict[str, str]:
        gone = [one for name, one in self._known.items() if name not in sections]
        new = [one for name, one in sections.items() if name not in self._known]
        renamed: dict[str, str] = {}
        told = {one.guid: one.name for one in gone}
        for section in new:
            if section.guid in told:
                renamed[told[section.guid]] = section.name
        ways_gone = Counter(one.way for one in gone)
        ways_new = Counter(map(_way, new))
        for section in new:
            way = _way(section)
            if not section.guid and ways_gone[way] == ways_new[way] == 1:
                old = next(one.name for one in gone if one.way == way)
                renamed.setdefault(old, section.name)
        return renamed


def _way(section: ConnectorSection) -> str:
    """What makes two connectors the same way out."""
    hosts = ",".join(write_endpoint(host, port) for host, port in section.hosts)
    as_user = "" if section.as_user == "no" else f"{section.as_user} {section.deliver_command}"
    ends = [one for one in (section.mbox, section.socket, " ".join(section.command), as_user) if one]
    return ";".join((section.type, hosts, ",".join(sorted(section.address_spaces)), section.maildir, *ends))
