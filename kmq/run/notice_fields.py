"""The part of a notice for programs: message/delivery-status (RFC 3464 2.2, 2.3; RFC 6533 for what is not ASCII).

Promise:  pure; no address, reply or parameter of a stranger gets out of its field.
Callers:  run.notices.
"""

from collections.abc import Iterable, Sequence
from email.utils import formatdate

from kmq.model import orcpt
from kmq.model.envelope import Head
from kmq.run import notice_parts
from kmq.run.notice import Action, Lost, Office, unix


def part(head: Head, lost: Sequence[Lost], office: Office, unicode: bool, called: str) -> bytes:
    """The fields of the message, then of each recipient. unicode: the notice goes with SMTPUTF8; called: the part."""
    groups = [_message_fields(head, office.hostname), *(_recipient_fields(one, office, unicode) for one in lost)]
    content = b"\r\n\r\n".join(_group(group, unicode) for group in groups) + b"\r\n"
    if unicode and not content.isascii():
        return notice_parts.part("message/global-delivery-status", "8bit", called, content)
    return notice_parts.part("message/delivery-status", "7bit", called, content)


def _message_fields(head: Head, hostname: str) -> list[tuple[str, str]]:
    fields = [("Original-Envelope-Id", orcpt.xtext_decoded(head.envid))] if head.envid else []
    fields.append(("Reporting-MTA", f"dns; {hostname}"))
    if head.source.helo:
        fields.append(("Received-From-MTA", f"dns; {head.source.helo}"))
    fields.append(("Arrival-Date", formatdate(unix(head.created))))
    return fields


def _recipient_fields(lost: Lost, office: Office, unicode: bool) -> list[tuple[str, str]]:
    recipient, said, host = lost.recipient, lost.reply, lost.host
    fields = []
    if recipient.orcpt:
        fields.append(("Original-Recipient", _original(orcpt.read(recipient.orcpt), unicode)))
    fields.append(("Final-Recipient", _typed(recipient.address, unicode)))
    fields.append(("Action", lost.action.value))
    fields.append(("Status", lost.status))
    if host:
        fields.append(("Remote-MTA", f"dns; {host.partition('[')[0]}"))
    if lost.action is not Action.DELIVERED:
        fields.append(("Diagnostic-Code", f"smtp; {said}" if host else f"X-kmq; {said}"))
    if lost.action is Action.DELAYED and office.until:
        fields.append(("Will-Retry-Until", formatdate(office.until)))
    return fields


def _typed(address: str, unicode: bool) -> str:
    """RFC 3464 2.1.2, and RFC 6533 3 for what is not ASCII: escaped, unless UTF-8 may stand as it is."""
    if address.isascii():
        return f"rfc822; {address}"
    return f"utf-8; {address if unicode else orcpt.utf8_xtext(address)}"


def _original(found: orcpt.Original, unicode: bool) -> str:
    """As the sender wrote it, in the form that the notice can bear."""
    return f"{found.kind}; {orcpt.utf8_xtext(found.address) if found.utf8 and not unicode else found.address}"


def escaped(text: str) -> str:
    """ASCII without control characters, blanks as they are: \\x{HEX} for the rest."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(sign if " " <= sign <= "~" else f"\\x{{{ord(sign):02X}}}" for sign in text)


def _group(fields: Iterable[tuple[str, str]], unicode: bool) -> bytes:
    return b"\r\n".join(_field(name, value, unicode) for name, value in fields)


def _field(name: str, value: str, unicode: bool) -> bytes:
    """One field, folded at blanks, so that no line is longer than RFC 5322 allows."""
    shown = value if unicode and value.isprintable() else escaped(value)
    line = f"{name}: {shown}"
    lines: list[str] = []
    while len(line) > 900:
        cut = line.rfind(" ", 200, 900)
        cut = cut if cut > 0 else 900
        lines.append(line[:cut])
        line = "\t" + line[cut:].lstrip()
    return "\r\n".join([*lines, line]).encode("utf-8", "backslashreplace")
