"""Files of the Replay directory: mail that was in a queue before, with its envelope in X-headers ahead of its header.

Rules:    of Exchange's Replay directory.
              X-Sender: <address> [BODY= RET= ENVID= AUTH=]       once
              X-Receiver: <address> [NOTIFY= ORCPT=]              once or more
              X-CreatedBy, X-HeloDomain, X-Source, X-SourceIPAddress, X-ExtendedMessageProps
              X-kmq-Original: ID                                  of `kmq export`: the message that this is a copy of
              X-EndOfInjectedXHeaders: bytes                      ends them
          They come first, in any order, and are no part of the message. Without the last one they end at the first
          field whose name does not begin with `X-`. Bcc is removed, Date and Message-ID added when they are missing.
Promise:  pure. Parameters go through the same checks as those of MAIL and RCPT; nothing of the block reaches a header,
          a log or a command that those would not let through.
Callers:  run.pickup hands it to run.drop_taking.
"""

import re
from ipaddress import ip_address

from kmq.config.drop import ReplaySection
from kmq.intake import parameters
from kmq.intake.completion import BadHeader, Completion, Way
from kmq.intake.dropped import BadFile, Letter, origin
from kmq.intake.trace import peer
from kmq.intake.transaction import Sender
from kmq.model import fields, queue_id
from kmq.model.envelope import Recipient, Source
from kmq.model.fields import Field

_SENDER, _RECEIVER, _END = b"x-sender", b"x-receiver", b"x-endofinjectedxheaders"
_CREATED_BY, _HELO, _IP = b"x-createdby", b"x-helodomain", b"x-sourceipaddress"
_SOURCE, _PROPERTIES = b"x-source", b"x-extendedmessageprops"
_ORIGINAL = b"x-kmq-original"

#: The fields of the block; all but the recipients stand in it once.
BLOCK = frozenset({_SENDER, _RECEIVER, _END, _CREATED_BY, _HELO, _IP, _SOURCE, _PROPERTIES, _ORIGINAL})

_PATH = re.compile(rb'<(?>[^"<>\\]++|"(?>[^"\\]|\\.)*+")*+>').match

#: What Exchange writes where no server is known.
_NO_ADDRESS = "0.0.0.0"
_LONGEST = 255  #: bytes of a value that is kept
#: More than a queue ever takes at once; a file of the largest size names fewer.
_RECIPIENTS = 100_000


class Replay:
    """Reads files by the settings of [replay]."""

    #: No limit of Exchange's; what a message's own header may have is in fields.LIMIT.
    header_limit = 1 << 20

    def __init__(self, section: ReplaySection, completion: Completion) -> None:
        self.hop_limit = section.hop_limit
        self._completion = completion

    def read(self, header: bytes, user: str, now: float) -> Letter:
        """A letter; BadFile."""
        try:
            found = fields.read(header)
            block, own = divided(found)
            completed = self._completion.complete(
                b"".join(one.text for one in own), Way.REPLAY, sender="", name="", now=now
            )
        except (BadHeader, fields.NotAField) as wrong:
            raise BadFile(str(wrong)) from None
        sender = _sender(block)
        recipients = _recipients(block, sender.utf8)
        source = _source(block, user)
        trace = origin(peer(source.helo.encode() or b"localhost", source.ip), self._completion.hostname, b"Replay")
        return Letter(sender, recipients, completed, source, trace, _original(block))


def divided(found: list[Field]) -> tuple[list[Field], list[Field]]:
    """The block, and the message's own header; BadFile when it cannot be told which is which."""
    names = [one.name for one in found]
    end = names.index(_END) + 1 if _END in names else 0
    if not end:
        end = next((at for at, name in enumerate(names) if not name.startswith(b"x-")), len(names))
    strange = next((one for one in found[:end] if one.name not in BLOCK), None)
    if strange is not None:
        raise BadFile(
            f"{_shown(strange.name)} is none of the X-headers that come first; a field of the message itself stands"
            " behind X-EndOfInjectedXHeaders, or behind a field without X-"
        )
    late = next((one for one in found[end:] if one.name in BLOCK), None) if _END not in names else None
    if late is not None:
        raise BadFile(f"{_shown(late.name)} stands behind other fields: the X-headers come first")
    return found[:end], found[end:]


def _sender(block: list[Field]) -> Sender:
    field = _only(block, _SENDER)
    if field is None:
        raise BadFile("there is no X-Sender")
    argument = b"FROM:" + _without_auth(field.value)
    if not field.value.isascii():
        argument += b" SMTPUTF8"
    read = parameters.sender(argument)
    if isinstance(read, bytes):
        raise BadFile(f"X-Sender cannot be used: {_said(read)}")
    return read


def _without_auth(value: bytes) -> bytes:
    """AUTH= is read over: we believe who can write here, and say nothing of it to others (RFC 4954 5)."""
    path, words = _words(value)
    return path + b" ".join(word for word in words if word[:5].upper() != b"AUTH=")


def _recipients(block: list[Field], utf8: bool) -> list[Recipient]:
    found: dict[str, Recipient] = {}
    for field in block:
        if field.name == _RECEIVER:
            read = parameters.recipient(b"TO:" + _typed(field.value), utf8 or not field.value.isascii())
            if isinstance(read, bytes):
                raise BadFile(f"an X-Receiver cannot be used: {_said(read)}")
            found.setdefault(read.address, read)
    if not found:
        raise BadFile("there is no X-Receiver")
    if len(found) > _RECIPIENTS:
        raise BadFile(f"{len(found)} recipients are more than {_RECIPIENTS}")
    return list(found.values())


def _typed(value: bytes) -> bytes:
    """Exchange writes ORcpt=a@example.org; RFC 3461 wants the kind of address ahead."""
    path, words = _words(value)
    for at, word in enumerate(words):
        if word[:6].upper() == b"ORCPT=" and b";" not in word:
            words[at] = b"ORCPT=rfc822;" + word[6:].replace(b"+", b"+2B").replace(b"=", b"+3D")
    return path + b" ".join(words)


def _words(value: bytes) -> tuple[bytes, list[bytes]]:
    """The path, and what follows it word by word."""
    path = _PATH(value)
    end = path.end() if path else len(value)
    return value[:end], value[end:].split(b" ")


def _source(block: list[Field], user: str) -> Source:
    end = _text(block, _END)
    if end and not end.isdecimal():
        raise BadFile("X-EndOfInjectedXHeaders is no number")
    if _only(block, _CREATED_BY) and not _text(block, _CREATED_BY):
        raise BadFile("X-CreatedBy is empty")
    ip = _text(block, _IP)
    try:
        ip = str(ip_address(ip)) if ip and ip != _NO_ADDRESS else ""
    except ValueError:
        raise BadFile("X-SourceIPAddress is no IP address") from None
    _only(block, _PROPERTIES)
    return Source(
        how="replay",
        ip=ip,
        helo=_text(block, _HELO),
        user=user,
        receiver=_text(block, _SOURCE),
        created_by=_text(block, _CREATED_BY),
    )


def _original(block: list[Field]) -> str:
    name = _text(block, _ORIGINAL)
    if name and not queue_id.PATTERN.fullmatch(name):
        raise BadFile("X-kmq-Original is no queue ID")
    return name


def _text(block: list[Field], name: bytes) -> str:
    """A field's value as text, "" when it is not there."""
    field = _only(block, name)
    value = field.value if field else b""
    text = value.decode("utf-8", "replace")
    if len(value) > _LONGEST or not text.isprintable():
        raise BadFile(f"{_shown(name)} is longer than {_LONGEST} bytes, or has control characters")
    return text


def _only(block: list[Field], name: bytes) -> Field | None:
    found = [one for one in block if one.name == name]
    if len(found) > 1:
        raise BadFile(f"there is more than one {_shown(name)}")
    return found[0] if found else None


def _shown(name: bytes) -> str:
    """A field's name as people write it."""
    return name.decode().title()


def _said(reply: bytes) -> str:
    """A reply's text: `501 5.1.7 Bad sender address syntax` without what is for a client."""
    return reply.decode().strip().split(" ", 2)[-1]
