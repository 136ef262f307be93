"""What kmq.conf(5) says of the hours in which mail leaves.

Promise:  man(7) source.
Callers:  `page`.
"""

TIMETABLES = r""".SH TIMETABLES
A connector with
.B delivery = offline
is Kerio's scheduler: its mail waits, and at each time of
.B send_every
and
.B send_at
all that waits in its queues is tried once, whatever failed before. What comes in while a queue is being sent goes
along. What could not be sent waits for the next time: there are no other retries, whatever the retry profile says, and
NextRetryTime of
.B kmq queues
is the next time of the timetable. (Kerio shows a Next Try in online mode only; a time that is known is better told.)
Lifetimes count as ever: an attempt that fails after
.B message_lifetime
is the last one. After a start of kmqd, mail that should have been sent while it did not run is sent at once.
.P
With
.B between
and
.B days
a connector works at some hours only. With
.B delivery = online
mail leaves within them as it comes, and is tried again by the retry profile; outside of them its queues are closed, and
what is on its way is brought to its end.
.B kmq retry
and
.B kmq flush
send at once at any time, until the queue is empty, or its hop cannot be reached.
.P
.nf
[branch : connector]
type = smarthost
address_spaces = branch.example
hosts = mail.branch.example
delivery = offline
send_every = 30m
between = 07:00\-19:00
days = mon\-fri
.fi
.P
A client that is named in
.B etrn_from
of a receiver may have the mail of a domain sent with ETRN (RFC 1985):
\fBETRN branch.example\fR for the domain,
\fBETRN @branch.example\fR for all below it too, \fBETRN #branch\fR for a connector or a queue by its name. It hears
how many messages are on their way (253), that there are none (251), that they cannot be sent now (458), or that no
connector names the domain (459). The other way round, a connector with
.B etrn_domains
asks its own servers, at its times, for the mail that they keep; what they say stands in the mail log.
.P
Times are local time, of the machine or of the environment variable TZ. On the two days of the year on which the clock
jumps: a time that is skipped counts in the moment of the jump, once for all that are skipped; a time that comes twice
counts the first time.
.B send_every
counts hours that pass, whatever clocks show: from midnight, or from the beginning of each range of
.BR between ,
so on these days too nothing is left out and nothing is sent twice in a moment. The end of a range does not belong to
it, and a range that is skipped altogether does not take place. Where nothing has happened for a while, a time
or a range may begin up to five seconds late.
"""
