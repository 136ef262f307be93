"""What kmq.conf(5) says of priorities and of limits, on the way in and on the way out.

Promise:  man(7) source.
Callers:  `page`.
"""

LIMITS = r""".SH PRIORITY
With
.B priority_queuing = yes
mail is of high, normal or low priority. The header says which, where
.B priority_from
lets it: by default only that of users, of clients in
.BR relay_from ,
and of files that were dropped into a directory, so that no stranger buys himself a place ahead of others. It stands
in the envelope, so a restart does not forget it. In each queue the more urgent goes first; but mail of normal
priority has every fifth turn at least, and low priority every seventeenth, so that nobody waits for ever. Each has
connections of its own
.RB ( priority_connections ),
which others do not use: an urgent message does not wait until slow servers have taken the newsletter. Waits between
attempts are the same for all. A notice about mail of low priority is of low priority; all others are ordinary mail.
.TS
l l l l.
priority	delay_warning	message_lifetime	connections of 20
high	30m	8h	3
normal	the profile's	the profile's	15
low	8h	the profile's	2
.TE
.SH LIMITS
On the way out all limits hold over all workers together, exactly: each worker has its part, and a queue of fewer
connections than there are workers is the work of some of them. The exception is
.BR connections_per_host ,
of which each worker has one at least, since which servers a domain has is known only when it is asked.
.P
Messages per minute are spread evenly: with
.B messages_per_minute = 30
one leaves every two seconds. What has to wait says so in
.B kmq queues
and
.BR "kmq explain" ,
with the limit and the time. A pause is not made up for. After a restart of the scheduler process the minute begins
anew.
.P
With
.B slow_down = yes
a next hop that answers a message with 421, or three messages in a row with 4.7.x, is left alone for ten seconds, and
has half as many connections after that. It wins one back whenever it has taken as many messages as it has
connections. Each time that it happens again the pause doubles, up to ten minutes. Replies about greylisting are no
such word: each message comes again by its own schedule.
.P
On the way in limits hold over all receiver processes. The last minute is what was done in this one, and of the one
before as much as still lies within 60 seconds. Whoever is above a limit hears a temporary refusal and may try again;
refusals do not count. The names in Exchange Server:
.TS
l l.
connections_per_minute	MaxConnectionRatePerMinute (1200 there)
client_messages_per_minute	MessageRateLimit
sessions, sessions_per_client	MaxInboundConnection, MaxInboundConnectionPerSource
connections, connections_per_domain	MaxOutboundConnections, MaxPerDomainOutboundConnections
messages_per_connection	SmtpMaxMessagesPerConnection (20 there)
.TE
"""
