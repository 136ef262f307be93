"""The gates of a receiver process: one SMTP server for each receiver section and one for the programs of this machine,
under the configuration that counts.

Promise:  `make` looks at everything that can be wrong with a configuration and changes nothing; what it returns cannot
          fail. Sessions under way go on by what they began with; when their section is gone, or their listener, until
          they end by themselves.
On crash: listeners live on in the supervisor; clients that had no 250 send again.
Callers:  run.receiver.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from kmq.config import ReceiverSection, Settings
from kmq.config.certificates import require
from kmq.config.sendmail import RECEIVER
from kmq.intake import pace
from kmq.intake.local import LocalSmtpd, as_receiver
from kmq.intake.pace import Pace
from kmq.intake.priority import urgent_size
from kmq.intake.rates import Rates
from kmq.intake.smtpd import Counted, Sizes, Smtpd, tls_context
from kmq.intake.submission import Submission
from kmq.intake.tally import Tally, shared
from kmq.routing.table import Routes
from kmq.run import listeners
from kmq.run.cord import Gift


class Gates:
    """row: the place of this process in the memory that all receivers count their sessions in."""

    def __init__(self, submission: Submission, row: int) -> None:
        self._submission = submission
        self._row = row
        self._smtpds: dict[str, Smtpd] = {}
        self._gone: list[Smtpd] = []

    def __iter__(self) -> Iterator[Smtpd]:
        """Those of sections that are gone and still have sessions too."""
        self._gone = [one for one in self._gone if one.sessions]
        return iter([*self._smtpds.values(), *self._gone])

    def make(self, gift: Gift) -> Callable[[], Awaitable[None]]:
        """Ready for this configuration; -> what makes it count. ConfigError when a certificate cannot be used."""
        settings = gift.settings
        require(settings)
        routes = Routes(settings)
        sections = _sections(settings)
        contexts = {section.name: tls_context(section) for section in sections}
        fresh = {
            section.name: self._new(section, settings, routes, gift)
            for section in sections
            if section.name not in self._smtpds
        }

        async def count() -> None:
            smtpds = {section.name: fresh.get(section.name) or self._smtpds[section.name] for section in sections}
            self._gone += [one for name, one in self._smtpds.items() if name not in smtpds]
            self._smtpds = smtpds
            for section in sections:
                smtpd = smtpds[section.name]
                if section.name not in fresh:
                    _look_anew(smtpd, section, gift)
                    smtpd.adopt(section, settings.kmq.hostname, routes, contexts[section.name], _sizes(settings))
            for one in self._gone:
                await one.serve([])
            for name, smtpd in smtpds.items():
                names = [other for other in gift.sockets if listeners.section_of(other) == name]
                await smtpd.serve([gift.sockets.pop(other) for other in names])

        return count

    async def close(self, grace: float) -> None:
        """Takes nobody in any more; messages under way come to their end, for `grace` seconds at most."""
        await asyncio.gather(*(smtpd.close(grace) for smtpd in self))

    def _new(self, section: ReceiverSection, settings: Settings, routes: Routes, gift: Gift) -> Smtpd:
        memory = gift.tallies.get(section.name)
        rows, row = (settings.kmq.receivers, self._row) if memory is not None else (1, 0)
        mapped = shared(memory, rows) if memory is not None else None
        tally = Tally(section.sessions, section.sessions_per_client, mapped, row, rows)
        kind = LocalSmtpd if section.name == RECEIVER else Smtpd
        rates = Rates(section, gift.tallies.get(pace.memory_of(section.name)), self._row, settings.kmq.receivers)
        counted = Counted(tally, rates)
        smtpd = kind(section, settings.kmq.hostname, routes, self._submission, _sizes(settings), counted)
        if isinstance(smtpd, LocalSmtpd):
            minutes = gift.tallies.get(pace.MEMORY)
            paced = pace.shared(minutes, rows) if minutes is not None else None
            smtpd.settle(settings.sendmail, Pace(settings.sendmail.messages_per_minute, paced, row, rows))
        return smtpd


def _sizes(settings: Settings) -> Sizes:
    return Sizes(settings.queue.small_body, urgent_size(settings.queue))


def _sections(settings: Settings) -> list[ReceiverSection]:
    """Of the net, and of this machine."""
    local = [as_receiver(settings.sendmail)] if settings.sendmail.socket else []
    return [*settings.receivers, *local]


def _look_anew(smtpd: Smtpd, section: ReceiverSection, gift: Gift) -> None:
    """There may be more processes that count, or fewer; and users who are trusted."""
    rows = gift.settings.kmq.receivers
    if section.name in gift.tallies:
        smtpd.tally.see(shared(gift.tallies[section.name], rows), rows)
    smtpd.rates.configure(section, gift.tallies.get(pace.memory_of(section.name)), rows)
    if isinstance(smtpd, LocalSmtpd):
        if pace.MEMORY in gift.tallies:
            smtpd.pace.see(pace.shared(gift.tallies[pace.MEMORY], rows), rows)
        smtpd.settle(gift.settings.sendmail, smtpd.pace)
