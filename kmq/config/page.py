"""The manual page kmq.conf(5), printed from the declarations of `sections`.

Promise:  man(7) source, the same on every machine; man/kmq.conf.5 is what this prints.
"""

from collections.abc import Iterator

from kmq.config.page_content import ATTACHMENTS
from kmq.config.page_dns import WAY_OUT
from kmq.config.page_limits import LIMITS
from kmq.config.page_local import LOCAL_DELIVERY
from kmq.config.page_scanners import SCANNERS
from kmq.config.page_timetable import TIMETABLES
from kmq.config.reading import ENVIRONMENT, SYSTEM_PATH
from kmq.config.sections import KINDS, OPTIONS, SINGLE, Option

_OPENING = f"""\
.\\" Printed from kmq/config by `kmq config --man`.
.TH KMQ.CONF 5 "" kmq "File Formats"
.SH NAME
kmq.conf \\- configuration of the mail transfer agent kmq
.SH SYNOPSIS
.B {SYSTEM_PATH}
.SH DESCRIPTION
All programs of kmq read one configuration: the file named with
.BR \\-c ,
else the one in the environment variable
.BR {ENVIRONMENT} ,
else
.BR {SYSTEM_PATH} .
Mistakes are told all at once, each with its line and with what would be right, and the program ends with status 78;
a running
.BR kmqd (8)
that is told to reload keeps what it has.
.B kmq config
prints what counts on this machine, and where each value comes from.
.SH FORMAT
A file consists of sections: a heading in brackets, then lines
.IR option " = " value .
A value goes on in lines that are indented further than its option.
What follows a
.B ;
or
.B #
at the beginning of a line or after a blank is a comment.
The file is UTF\\-8. Names of options may be written in small or capital letters; names of sections and words may not.
.TP
.B Inheritance
.BI [ child " : " parent ]
takes from its parent what it does not say itself, and the parent from its own. The line of parents ends in
.BR receiver ,
.B connector
or
.BR retry ,
the kind of the section; what stands in
.B [receiver]
itself holds for all receivers. A section that lacks what it needs to be of use is a mistake, unless others inherit
from it: then it is a pattern only.
.TP
.B Values for one machine
.IB option [ host ]
= value
counts on the machine of that host name, in full or up to its first dot, instead of
.IR option .
A nearer section wins over a value for one machine in its parent.
.TP
.B References
.BI ${{ option }}
stands for the value of another option of the same section, as the section that inherits sees it,
.BI ${{ section : option }}
for one of another section,
.B ${{machine:name}}
for the host name of this machine, and
.B $$
for a dollar sign.
.TP
.B Durations
are a number and
.BR ms ", " s ", " m ", " h ", " d " or " w ;
a number alone is seconds.
.TP
.B Sizes
are a number and
.BR K ", " M ", " G " or " T
(1 K is 1024 bytes); a number alone is bytes.
.TP
.B Lists
have commas or line ends between their entries.
"""

_CLOSING = """\
.SH ROUTING
Where mail for an address goes is decided in this order;
.B kmq route
.I ADDRESS
shows it with the lines that decide.
.TP
.B 1
An address in
.B local_domains
(or in brackets, when a receiver listens there) is local, whoever writes: its alias in
.BR alias_files ,
see
.BR kmq\\-aliases (5),
else its mailbox. All others go to a connector that is not for mailboxes:
.TP
.B 2
the one with the most precise address space:
.BR example.org ,
then
.B *.example.org
(the longest first), then
.BR * ;
.TP
.B 3
of several with that space, one for this mail: a connector that names
.BR senders ,
.B authenticated_users
or
.B clients
serves only mail that meets all that it names. It goes before one that names none; one that names more of them goes
before one that names fewer, and a sender's address before his domain;
.TP
.B 4
the one with the lowest
.BR cost ;
.TP
.B 5
the first in the file.
.P
What no connector serves waits in the queue Unreachable Domain.
"""

_EXAMPLE = """\
.SH EXAMPLE
.nf
[kmq]
hostname = mx.example.org
local_domains = example.org
\\&
[receiver]
relay_from = 127.0.0.0/8, ::1
\\&
[mx : receiver]
listen = 0.0.0.0:25, [::]:25
listen[mx\\-test] = 127.0.0.1:2525
\\&
[mailboxes : connector]
type = mailbox
maildir = /var/mail/{user}
\\&
[world : connector]
type = dns
address_spaces = *
\\&
[partner : connector]
type = smarthost
address_spaces = partner.example, *.partner.example
hosts = mail.partner.example
tls = must
\\&
[isp : connector]
type = smarthost
address_spaces = isp.example
hosts = smtp.isp.example:465
tls = implicit
auth_user = example.org
password_file = isp.password
.fi
.P
Where mail goes by it:
.P
.\\" scene: printed
.nf
$ kmq route boss@partner.example
boss@partner.example
  rcpt        taken in from clients in relay_from and from programs of this machine
  rule        /etc/kmq/kmq.conf:23 [partner : connector] address_spaces = partner.example
  next hop    mail.partner.example:25 (smart host, connector partner)
$ kmq route somebody@far.example
somebody@far.example
  rcpt        taken in from clients in relay_from and from programs of this machine
  rule        /etc/kmq/kmq.conf:19 [world : connector] address_spaces = *
  next hop    far.example (the servers of the domain, by DNS, connector world)
.fi
.SH FILES
.B /etc/kmq/kmq.conf
.SH SEE ALSO
.BR kmq (1),
.BR kmq\\-aliases (5),
.BR kmq\\-rules (5),
.BR kmqd (8)
"""


def manual() -> str:
    """kmq.conf(5) as man(7) source."""
    options = "".join(line + "\n" for kind in KINDS for line in _section(kind))
    chapters = (_CLOSING, LOCAL_DELIVERY, WAY_OUT, LIMITS, ATTACHMENTS, SCANNERS, TIMETABLES, _EXAMPLE)
    return "".join((_OPENING, options, *chapters))


def _section(kind: str) -> Iterator[str]:
    heading = f"[{kind}]" if kind in SINGLE else f"[NAME : {kind}]"
    yield f".SH {heading}"
    for paragraph in (KINDS[kind].__doc__ or "").split("\n\n"):
        yield _escape(" ".join(paragraph.split()))
        yield ".P"
    for option in OPTIONS[kind].values():
        yield from _option(option)


def _option(option: Option) -> Iterator[str]:
    yield ".TP"
    yield rf"\fB{_plain(option.name)}\fR = \fI{_plain(option.default)}\fR".rstrip()
    yield _escape(option.doc)
    yield _escape(f"({option.kind.shape[0].upper()}{option.kind.shape[1:]}.)")
    if option.restart:
        yield "A change counts when kmqd is started anew."


def _plain(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-")


def _escape(text: str) -> str:
    """A paragraph: `words` in backticks are bold; what begins a line may not look like a request."""
    pieces = _plain(text).split("`")
    bold = "".join(rf"\fB{piece}\fR" if place % 2 else piece for place, piece in enumerate(pieces))
    return rf"\&{bold}" if bold[:1] in (".", "'") else bold
