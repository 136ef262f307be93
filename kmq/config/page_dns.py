"""What kmq.conf(5) says of connectors that ask the DNS, and of TLS on the way out.

Promise:  man(7) source.
Callers:  `page`.
"""

WAY_OUT = r""".SH THE WAY OUT BY DNS
A connector of
.B type = dns
has a queue for each domain. Its servers are those of the domain's MX records, the lowest preference first, equals in
random order, ten at most; without MX records the domain itself (RFC 5321, section 5.1). The next one is tried when one
cannot be reached, does not greet, or fails at TLS; one that failed within the last minute is tried last. An address
literal,
.IR user @[192.0.2.1],
is its own server. Domains whose servers have an address in common share the connections to it, of which there are no
more than
.B per_hop
for one queue.
.P
What the DNS says decides between waiting and returning:
.TP
Returned, 5.1.2
The domain does not exist, or has neither MX nor address.
.TP
Returned, 5.1.10
Its MX record names nobody (null MX, RFC 7505).
.TP
Returned, 5.4.4
None of its servers has an address, or only such as
.B forbidden_addresses
names.
.TP
Returned, 5.4.6
Its best server is this one, by name or by address and port.
.TP
Waits, 4.4.3
No answer, SERVFAIL, REFUSED, or none that can be read.
.P
Servers that are no better than this one are left out, so that a backup hands on to its betters alone.
.SH TLS ON THE WAY OUT
.TP
\fBtls\fR = may
STARTTLS where it is offered, with any certificate, or with the right one alone
(\fBtls_verify\fR = name); where it is not offered, in clear; what happens when it fails says
.B tls_failure.
.TP
\fBtls\fR = must
STARTTLS with the right certificate, or mail waits; with
\fBtls_verify\fR = none any certificate will do.
.TP
\fBtls\fR = implicit
The same with TLS from the first byte, for smart hosts.
.P
.I Right
means: valid today, for the name in
.B hosts
or in the MX record, and issued by an authority of
.BR tls_ca_file .
Names of MX records come from the DNS; who can forge its answers can name a server of his own, so that
.B must
for the whole world protects against those who listen and not against those who forge. For a partner, write a connector
of
.B type = smarthost
with the names of his servers. What protected a message is told by
.BR "kmq history" ,
and by
.B tls
in the mail log.
"""
