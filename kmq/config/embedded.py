"""The configuration that needs no file: kmq tried out from a folder of its own.

Promise:  it listens on this machine alone, needs no rights, and keeps everything below ./spool. etc/kmq.conf says the
          same with more words.
"""

import os

from kmq.config.reading import ENVIRONMENT, SYSTEM_PATH, load, read
from kmq.config.sections import Settings

#: Its name in messages.
NAME = "embedded.conf"

EMBEDDED = """\
[kmq]
spool = spool
local_domains = localhost

[receiver]
relay_from = 127.0.0.0/8, ::1

[smtp : receiver]
listen = 127.0.0.1:2525

[mailboxes : connector]
type = mailbox
maildir = ${kmq:spool}/mail/{user}
users = alice, bob, postmaster, root

[smarthost : connector]
type = smarthost
address_spaces = *
; Mail for elsewhere waits in the Unreachable queue until a server is named that takes it on:
; hosts = smtp.example.org:587
hosts =
"""


def embedded(folder: str = "") -> Settings:
    """The settings of EMBEDDED, with the spool in a folder: the current one when left out."""
    return read(EMBEDDED, NAME, os.path.abspath(folder))


def load_or_embedded(path: str | None = None) -> Settings:
    """As `load`; without a file, named or installed, `embedded` if the current folder has the spool of a trial."""
    if path or os.environ.get(ENVIRONMENT) or os.path.exists(SYSTEM_PATH) or not os.path.exists("spool/FORMAT"):
        return load(path)
    return embedded()
