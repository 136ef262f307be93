"""What kmq.conf(5) says of scanners.

Promise:  man(7) source.
Callers:  `page`.
"""

SCANNERS = r""".SH SCANNERS
A message is scanned when it is in the queue and before it is routed. Two sections do for most servers:
.P
.nf
[virus : scanner]
type = clamd
address = /run/clamav/clamd.ctl
\&
[junk : scanner]
type = rspamd
address = 127.0.0.1:11333
.fi
.P
The user that kmqd runs as has to be let into clamd's socket: on Debian
.B adduser kmq clamav
and a restart of kmqd.
.B kmq check
asks each scanner, and shows clamd EICAR's test file, so that one without signatures is noticed.
In clamd.conf,
.B AlertEncrypted yes
and
.B AlertExceedsMax yes
have clamd say what it could not look into; without them it says that such mail is clean.
.B StreamMaxLength
should be as large as the
.B size_limit
of the receivers.
.P
.B When a scanner is away,
mail waits in the Submission queue:
.B kmq explain
says
.B scanner\-down
and since when, and the sender hears of it as of any other delay. Somebody who tries as many messages as there are
.B connections
finds that one after the other hangs; from then on no message waits for its time limit, one looks now and then
whether the scanner is back, and the others are put off at once. Meanwhile all other queues go on: the Submission queue
never has more than half of
.BR worker_slots .
.P
.B Infected mail
is held unless the section says otherwise.
.B kmq mailq \-\-filter \(dqStatus \-eq \(aqSuspended\(aq\(dq
lists it with what was found;
.B kmq resume
lets a message go on past the scanners,
.B kmq export
copies it, and
.B kmq remove
ends it. With
.B infected = remove
each part is scanned by itself, the infected ones are taken out, and the rest is scanned again as a whole: where that
finds something still, or no part alone is infected, the message is held. Who gets the mail sees a note in the
attachment's place.
.P
.B Spam
is marked by default:
.BR X\-Spam\-Status ,
.B X\-Spam\-Score
and
.BR X\-Spam\-Flag ,
for mailboxes and rules; the score is also the property
.B SCL
of
.BR kmq\-filter (5).
What came with such fields loses them.
.P
.B A verdict is remembered
for
.B remember
and serves mail with the same bytes, as one message to many comes in; our own
.B Received:
does not count. clamd is asked every five seconds which signatures it has, and when it has others all is forgotten.
Signatures of one's own (files such as .ndb) have no version: for them only the time counts.
"""
