"""What the SMTP session says: one reply each, ready for the wire. Texts that operators know from tests and logs.

Promise:  every reply has an enhanced code (RFC 2034) except greeting, 354, and the answers to HELO and EHLO; what comes
          from elsewhere (`encoded`) is one printable ASCII line.
"""

from functools import lru_cache

from kmq.model.reply import Reply

_LONGEST = 480  # with code and line end below the 512 of RFC 5321 4.5.3.1.5

SENDER_OK = b"250 2.1.0 Sender ok\r\n"
RECIPIENT_OK = b"250 2.1.5 Recipient ok\r\n"
RESET_OK = b"250 2.0.0 Reset\r\n"
NOTHING_DONE = b"250 2.0.0 Ok\r\n"
HELP = b"214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP VRFY STARTTLS QUIT (RFC 5321)\r\n"
CANNOT_VERIFY = b"252 2.0.0 Send some mail, I will try my best\r\n"
GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>\r\n"
START_TLS = b"220 2.0.0 Ready to start TLS\r\n"

TIMEOUT = b"421 4.4.2 Timeout\r\n"
TOO_MANY_CONNECTIONS = b"421 4.3.2 Too many connections\r\n"
SHUTTING_DOWN = b"421 4.3.2 Shutting down, try again later\r\n"
TOO_MANY_ERRORS = b"421 4.7.0 Too many errors\r\n"
TOO_MANY_COMMANDS = b"421 4.7.0 Too many commands that bring no mail\r\n"

TOO_MANY_IN_A_MINUTE = b"421 4.3.2 Too many connections in the last minute\r\n"
CONNECTS_TOO_OFTEN = b"421 4.7.0 Too many connections of yours in the last minute\r\n"
SENDS_TOO_MUCH = b"450 4.7.1 Too many messages of yours in the last minute\r\n"
NAMES_TOO_MANY = b"450 4.7.1 Too many recipients of yours in the last minute\r\n"
TOO_FAST = b"450 4.7.1 Too many messages of this user in the last minute\r\n"
TOO_MANY_RECIPIENTS = b"452 4.5.3 Too many recipients\r\n"

UNKNOWN_COMMAND = b"500 5.5.1 Command unknown\r\n"
LINE_TOO_LONG = b"500 5.5.2 Line too long\r\n"
BARE_IN_COMMAND = b"500 5.5.2 Bare CR or LF received\r\n"
NUL_IN_COMMAND = b"501 5.5.2 NUL received\r\n"
NO_ARGUMENT = b"501 5.5.4 This command takes no argument\r\n"
HELLO_SYNTAX = b"501 5.5.4 Syntax: EHLO hostname\r\n"
MAIL_SYNTAX = b"501 5.5.4 Syntax: MAIL FROM:<address>\r\n"
RCPT_SYNTAX = b"501 5.5.4 Syntax: RCPT TO:<address>\r\n"
ETRN_SYNTAX = b"501 5.5.4 Syntax: ETRN example.org, ETRN @example.org, ETRN #queue\r\n"
BDAT_SYNTAX = b"501 5.5.4 Syntax: BDAT size [LAST]\r\n"
BAD_PARAMETER = b"501 5.5.4 Bad parameter\r\n"
NOT_IMPLEMENTED = b"502 5.5.1 Command not implemented\r\n"
OUT_OF_SEQUENCE = b"503 5.5.1 Bad sequence of commands\r\n"
UNKNOWN_PARAMETER = b"555 5.5.4 Parameter not recognized\r\n"
NEEDS_SMTPUTF8 = b"553 5.6.7 A non-ASCII address needs SMTPUTF8\r\n"

RELAYING_DENIED = b"554 5.7.1 Relaying denied\r\n"
OUT_OF_SYNC = b"554 5.5.0 Protocol synchronization error\r\n"

BARE_CR_OR_LF = b"550 5.5.2 Bare CR or LF received\r\n"
NUL_RECEIVED = b"550 5.6.0 NUL received\r\n"
TOO_BIG = b"552 5.3.4 Message too big\r\n"
HEADER_TOO_BIG = b"552 5.3.4 Message header too big\r\n"
TOO_MANY_HOPS = b"554 5.4.6 Too many hops\r\n"


@lru_cache(256)
def encoded(reply: Reply) -> bytes:
    """A reply that another part of kmq gave, as a line."""
    text = str(reply).encode("ascii", "replace")[:_LONGEST]
    return bytes(octet if 32 <= octet < 127 else 63 for octet in text) + b"\r\n"


def bad_address(code: bytes, why: str) -> bytes:
    """501 with an enhanced code: sender 5.1.7, recipient 5.1.3 (RFC 3463 3.2)."""
    return b"501 %b Bad address: %b\r\n" % (code, why.encode("ascii", "replace"))


def bad_header(why: str) -> bytes:
    """The header is one that is not taken from users' programs."""
    return b"554 5.6.0 Bad header: %b\r\n" % why.encode("ascii", "replace")


def verified(address: str, what: str) -> bytes:
    """The answer to VRFY, where it says something: what becomes of mail."""
    return encoded(Reply(250, "2.1.5", f"<{address}> {what}"))


def chunk_taken(size: int) -> bytes:
    """After a BDAT that is not the last."""
    return b"250 2.0.0 %d octets received\r\n" % size


def accepted(queue_id: str) -> bytes:
    """The message is durable: from here it is ours (RFC 5321 6.1)."""
    return f"250 2.0.0 {queue_id} accepted\r\n".encode()


def greeting(hostname: str) -> bytes:
    return b"220 %b ESMTP kmq\r\n" % hostname.encode()


def goodbye(hostname: str) -> bytes:
    return b"221 2.0.0 %b closing connection\r\n" % hostname.encode()


def hello(hostname: str) -> bytes:
    """The answer to HELO."""
    return b"250 %b\r\n" % hostname.encode()


def extensions(hostname: str, size_limit: int, starttls: bool, etrn: bool = False) -> bytes:
    """The answer to EHLO: what we can do."""
    lines = [
        hostname,
        "PIPELINING",  # RFC 2920
        f"SIZE {size_limit}",  # RFC 1870
        "8BITMIME",  # RFC 6152
        "SMTPUTF8",  # RFC 6531
        "ENHANCEDSTATUSCODES",  # RFC 2034
        "CHUNKING",  # RFC 3030
        "DSN",  # RFC 3461
    ]
    if starttls:
        lines.insert(-1, "STARTTLS")  # RFC 3207
    if etrn:
        lines.insert(-1, "ETRN")  # RFC 1985
    return "".join(f"250-{line}\r\n" for line in lines[:-1]).encode() + f"250 {lines[-1]}\r\n".encode()
