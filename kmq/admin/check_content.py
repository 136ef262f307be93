"""Attachment rules: who gets copies by [content], and whether mail can be examined on this machine.

Promise:  `attachments` only looks, and asks the same tables as workers; `examiners` begins the program that examines
          mail, and ends it again. What is found keeps no mail from being taken in.
Callers:  admin.check, admin.doctor.
"""

import asyncio
from collections.abc import Iterator

from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings
from kmq.model.envelope import Recipient, Source
from kmq.model.reply import Reply
from kmq.phases.examiner_child import Child, NotBegun
from kmq.routing.table import Routes
from kmq.spool.incoming import FOLDER

_COPIES = ("forward_original", "forward_filtered")


def attachments(settings: Settings) -> Iterator[Verdict]:
    """How many rules there are, and addresses at which nobody is."""
    wanted = {name: getattr(settings.content, name) for name in _COPIES if getattr(settings.content, name)}
    if not settings.attachments:
        for name in wanted:
            what = f"[content] {name}: there is no section [NAME : attachment], so nothing is taken out of mail"
            yield Verdict(Grade.NOTE, what, "write one, or leave this out")
        return
    ways = Routes(settings).ways("", Source())
    for name, address in wanted.items():
        said = ways.decide(Recipient(address))
        if isinstance(said, Reply):
            yield Verdict(Grade.NOTE, f"[content] {name} = {address}: {said}", "name somebody who is there")
    count = len(settings.attachments)
    yield Verdict(Grade.GOOD, f"{count} attachment {'rule' if count == 1 else 'rules'}")


def examiners(settings: Settings) -> Iterator[Verdict]:
    """Whether the program can be begun, and how confined it is."""
    if not settings.attachments and not settings.rules:
        return
    try:
        lacking = asyncio.run(_begun(f"{settings.kmq.spool}/{FOLDER}", settings.content.memory))
    except NotBegun as why:
        what = f"the program that examines mail cannot be begun: {why}"
        yield Verdict(Grade.WRONG, what, "mail with attachments waits; see [content] in kmq.conf(5)")
        return
    if lacking:
        what = f"the program that examines mail lacks {', '.join(lacking)}, which this kernel or unit does not grant"
        yield Verdict(Grade.NOTE, what, "it is confined by its limits and its user alone")
    else:
        yield Verdict(Grade.GOOD, "mail is examined by a program without network or files")


async def _begun(folder: str, memory: int) -> tuple[str, ...]:
    child = await Child.begin(folder, memory)
    await child.end()
    return child.lacking
