"""The configuration that needs no file: kmq tried out from a folder of its own.

Promise:  it listens on this machine alone, needs no rights, and keeps everything below ./spool. etc/kmq.conf says the
          same with more words.
"""

#: What stands for a path: no file has this name, so a program that is handed it knows what is meant.
PATH = "<built-in>"

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
