"""What kmq.conf(5) says of content filtering: what an attachment is, what is taken out, what is not sure.

Promise:  man(7) source.
Callers:  `page`.
"""

ATTACHMENTS = r""".SH ATTACHMENTS
Sections
.B [NAME : attachment]
are tried for every attachment, the first in the file first; one that fits says whether it is let through. Programs are
taken out, but for those that our own people pack as they are told to:
.P
.nf
[ours : attachment]
action = accept
names = update\-*.zip
\&
[programs : attachment]
names = *.exe, *.scr, *.js, *.vbs, *.lnk, *.iso
types = application/x\-dosexec
description = Programs are not let through by mail.
.fi
.P
The recipients get the message with a note in the place of the attachment, which names it and says the
.BR description ,
in the language of the recipient as
.B [notices]
knows it. The rest of the message is the same, byte for byte. It goes on as a message of its own, so that what lies in
the queue is always what came;
.B kmq history
of the first leads to the second. A signature over the whole message does not fit any more, which the note says.
.P
Server rules, see
.BR kmq\-rules (5),
are asked before; what they reject, discard or hold is not taken apart.
.SS What is looked into
Multiparts, attached messages (also in base64), and ZIP archives, known by name, type or first bytes, with archives in
them. Other kinds of archives are one file: block them by name or type where that is not enough. A file that is
encrypted in an archive has a name all the same. Text that a mail program of old made of a file (uuencode) within the
text of a message is text.
.SS What is not sure
Mail that readers of mail take in different ways is a way to slip something past a filter. So it is
.I unreadable
when a part has two types, when a multipart has no boundary or shares that of another, when a header has lines in it
that are no fields, when it is only a piece of a message, and when an archive has two directories, hides files from its
own, or cannot be unpacked. It is
.I beyond the limits
when it is deeper or has more parts than anybody's mail, or is a ZIP bomb: what an archive says it becomes when it is
unpacked is added up before anything is. What becomes of such mail is the policy of
.B unreadable
and
.BR beyond_limits .
.SS Who reads it
A program of its own, as the user that kmqd runs as (or nobody, under root), with the message open and nothing else: no
network, no file that it could open to write, no other program, and limits of memory and time. When it dies of a message
that message alone is tried again, and set aside in
.B poison/
at
.BR poison_threshold ;
.B kmq poison test
says where it stood. When none can be begun mail that has to be examined waits.
.B kmq doctor
begins one to see how confined it is. Mail whose header shows that it has no attachment is not examined at all.
"""
