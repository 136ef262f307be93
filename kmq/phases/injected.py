"""The X-headers that say of a message in a file what its envelope said, for the Replay directory and for gateways.

Shape:    the fields of kmq-drop(5), one on a line, X-EndOfInjectedXHeaders last, which bears the length of the block.
          X-kmq-Original names the message: while it is in the queue here, Replay does not take such a file.
Promise:  pure. A value that Replay would not keep is left out; none breaks a line.
Callers:  phases.foreign, admin.exporting.
"""

from collections.abc import Collection

from kmq.model.envelope import Head, Recipient

#: Characters of a value that Replay keeps.
_LONGEST = 255

ORIGINAL = "X-kmq-Original"


def block(head: Head, rcpt: Collection[int]) -> bytes:
    """The X-headers for some recipients of a message."""
    lines = [f"X-Sender: <{head.sender}>{_sender_parameters(head)}"]
    lines += [f"X-Receiver: <{one.address}>{_parameters(one)}" for one in (head.recipients[index] for index in rcpt)]
    source = head.source
    said = {
        "X-CreatedBy": source.created_by,
        "X-HeloDomain": source.helo,
        "X-SourceIPAddress": source.ip,
        "X-Source": source.receiver or source.how,
        ORIGINAL: head.id,
    }
    lines += [f"{name}: {value}" for name, value in said.items() if value and _fits(value)]
    text = "".join(f"{line}\r\n" for line in lines).encode()
    end = b"X-EndOfInjectedXHeaders: %d\r\n"
    length = len(text) + len(end % len(text))
    return text + end % (len(text) + len(end % length))


def _sender_parameters(head: Head) -> str:
    words = ["BODY=8BITMIME" if head.eight_bit else "BODY=7BIT"]
    words += [f"RET={head.ret}"] if head.ret else []
    words += [f"ENVID={head.envid}"] if head.envid else []
    words += ["SMTPUTF8"] if head.smtputf8 and head.sender.isascii() else []  # else the address says so
    return "".join(f" {word}" for word in words)


def _parameters(one: Recipient) -> str:
    notify = f" NOTIFY={one.notify}" if one.notify else ""
    return f"{notify} ORCPT={one.orcpt}" if one.orcpt else notify


def _fits(value: str) -> bool:
    return value.isprintable() and len(value.encode()) <= _LONGEST
