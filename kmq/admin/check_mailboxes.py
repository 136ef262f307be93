"""Can mail be brought to the users of this machine?

Promise:  only looks, as the user who asks; what kmqd's user may is told where it can be seen from the modes. A server
          of mailboxes is asked by `kmq doctor`.
Callers:  admin.check.
"""

import os
import stat
from collections.abc import Iterator

from kmq.admin.modes import kmqd_s_uid, may_connect, may_write
from kmq.admin.verdict import Grade, Verdict
from kmq.config import ConnectorSection, Settings
from kmq.config.local_connector import LOCAL
from kmq.phases.addressee import place
from kmq.routing.table import Routes


def mailboxes(settings: Settings) -> Iterator[Verdict]:
    """Each connector that serves local domains."""
    for section in settings.connectors:
        if section.type not in LOCAL or not section.enabled:
            continue
        if section.type == "mailbox" and section.as_user == "no":
            yield from _root(settings, section)
        elif section.socket:
            yield from _socket(settings, section)
        yield from _catch_all(settings, section)


def _root(settings: Settings, section: ConnectorSection) -> Iterator[Verdict]:
    """The folder ahead of the first brace, which kmqd makes as far as it may."""
    kind = "mbox" if section.mbox else "maildir"
    template = section.mbox or section.maildir
    found = place(template, "user", "domain")
    if found is None:
        return
    root = found[0]
    what = f"{settings.origin(section.name, kind).place}: [{section.name}] {kind} = {template}: {root}"
    try:
        seen = os.stat(root)
    except FileNotFoundError:
        return  # nobody has a mailbox yet
    except OSError as error:
        yield Verdict(Grade.NOTE, f"{what}: {error.strerror}", "ask as root or as kmqd's user")
        return
    if not stat.S_ISDIR(seen.st_mode):
        yield Verdict(Grade.WRONG, f"{what} is no folder: mail waits", "name a folder ahead of {user}")
    elif not may_write(kmqd_s_uid(settings), seen) and (section.mbox or section.users != "existing"):
        why = "locks are made beside each mbox" if section.mbox else "new mailboxes are made there"
        text = f"{what} cannot be written by kmqd's user, and {why}: mail waits"
        yield Verdict(Grade.WRONG, text, f"give it to him, or to a group of his: chgrp kmq {root} && chmod g+ws {root}")


def _socket(settings: Settings, section: ConnectorSection) -> Iterator[Verdict]:
    what = f"{settings.origin(section.name, 'socket').place}: [{section.name}] socket = {section.socket}"
    try:
        seen = os.stat(section.socket)
        may = may_connect(kmqd_s_uid(settings), section.socket)
    except OSError as error:
        yield Verdict(Grade.WRONG, f"{what}: {error.strerror}: mail waits", "start the server of mailboxes, or name it")
        return
    if not stat.S_ISSOCK(seen.st_mode):
        yield Verdict(Grade.WRONG, f"{what} is no socket: mail waits", "name the one that the server listens on")
    elif not may:
        text = f"{what} cannot be written by kmqd's user: mail waits"
        yield Verdict(Grade.WRONG, text, "say so to the server (Dovecot: unix_listener .. { user = kmq })")


def _catch_all(settings: Settings, section: ConnectorSection) -> Iterator[Verdict]:
    """Whether whoever gets the rest is somebody."""
    if not section.catch_all:
        return
    local = Routes(settings).local
    for domain in settings.kmq.local_domains:
        boxes = local.at(domain)
        if boxes is None or boxes.connector is not section or local.aliases.find(section.catch_all, domain):
            continue
        refusal = boxes.refusal(section.catch_all)
        if refusal is not None and refusal.permanent:
            where = settings.origin(section.name, "catch_all").place
            text = f"{where}: [{section.name}] catch_all = {section.catch_all} is nobody in {domain}"
            yield Verdict(Grade.WRONG, f"{text}: what he should get is returned", "name one of its users, or an alias")
