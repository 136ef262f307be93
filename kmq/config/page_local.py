"""What kmq.conf(5) says of local delivery.

Promise:  man(7) source.
Callers:  `page`.
"""

LOCAL_DELIVERY = r""".SH LOCAL DELIVERY
Mail for
.B local_domains
goes to connectors of type
.BR mailbox ,
.B lmtp
or
.BR pipe .
Whoever they do for is known at RCPT already
.RB ( users ),
so nobody else's mail is taken in. On top of each copy stand
.BR Return\-Path ,
.B Delivered\-To
and
.BR X\-Original\-To ;
a message that bears that
.B Delivered\-To
already has gone in a circle and is returned (5.4.6). What filters changed of the header is changed in the copy; the
message in the queue stays as it came.
.TP
.B Maildir
A copy is written and synced in
.BR tmp ,
then linked into
.BR new ;
no link is followed below the folder ahead of the first brace of
.BR maildir .
After a crash the copy is known by its name, which is made of the message's ID, also in
.BR cur ;
one that somebody has deleted or moved elsewhere meanwhile comes again. Mail for
.I user\fB+\fIfolder
goes into
.BI . folder
of the Maildir when there is such a folder, but never into Sent, Drafts or Trash.
.TP
.B mbox
Other programs have to lock it by fcntl or by
.BR .lock ,
or both; kmqd's user needs to write in its folder for that (in /var/mail: the group mail). Lines that begin with
.B From
get a
.B >
(mboxrd). A line
.B X\-kmq\-Delivery
behind the From_ line names the copy and its length: after a crash the copy is looked for by it in the last mebibyte
of the file, and one that was cut short is taken away; a copy with more mail behind it, or that somebody has deleted
meanwhile, comes again.
.TP
.B lmtp
RFC 2033: the server answers for each recipient. When the connection breaks behind the message, those that it has not
answered for are tried again, and may have it twice.
.TP
.B pipe
The command gets the message as its standard input, with line ends of this machine. No shell reads it. In its words
.BR {user} ,
.BR {domain} ,
.B {extension}
(what stands behind a
.BR + ),
.BR {recipient} ,
.B {sender}
(empty for notices) and
.B {id}
are filled in; a word that would begin with a hyphen because of that has the mail returned. Its environment is USER,
DOMAIN, EXTENSION, RECIPIENT, SENDER, ID, LOGNAME, PATH, HOME, SHELL and LANG. What it exits with decides
.RB ( sysexits.h (3head)):
.TS
l l.
0	delivered
65 (data), 67 (no such user), 68, 76, 77 (not allowed)	returned to its sender
75 (try again), other numbers, a signal, too long	tried again
.TE
What it prints, up to 4 KiB, is read; the beginning stands in the reply, and with it an enhanced code (as 5.7.1) if it
begins with one of the same class.
.TP
.B as_user
The same by
.BR kmq\-deliver (8),
which becomes the user first: into ~/Maildir, or the file of his name in /var/mail, or to a command that root has named
in /etc/kmq/deliver.conf. What is written is his. Nothing is done as root or as a user below uid 1000, so
.B root
and
.B postmaster
need aliases. Without an answer of kmq\-deliver mail waits.
.P
Dovecot has the mailboxes of one domain, procmail is run for those of another, and unknown names there are alice's:
.P
.nf
[store : connector]
type = lmtp
address_spaces = example.org
socket = /run/dovecot/lmtp
users = file:/etc/kmq/users
\&
[sorted : connector]
type = pipe
address_spaces = lists.example.org
command = /usr/bin/procmail \-m /etc/kmq/procmailrc {user} {extension}
users = alice, bob
catch_all = alice
.fi
.P
In braces of
.B maildir
and
.B mbox
.B {domain}
keeps the users of several domains apart, as /srv/mail/{domain}/{user};
.B users = file:
may name whole addresses then.
"""
