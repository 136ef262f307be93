"""Who a message is from and for: what arguments and headers say, and what the machine knows of who calls.

Promise:  an address that comes out of here holds no control character: it can stand in a command. Bare ones stay bare,
          since kmqd alone knows the domain.
Callers:  cli.sendmail, cli.submit.
Start:    the reader of addresses is imported when something is more than one plain address.
"""

import os
from collections.abc import Iterable, Iterator

from kmq.cli.letter import Fault, Letter

_NAME_LIMIT = 100  #: characters of a full name

#: What makes an argument more than one plain address.
_SPECIAL = frozenset(' \t",;:()<>\\')


def addresses(arguments: Iterable[str]) -> Iterator[str]:
    """The addresses of arguments, each of which may be a list, with names; Fault for what is none."""
    for argument in arguments:
        if _SPECIAL.isdisjoint(argument) and argument.isprintable():
            if argument:
                yield argument
            continue
        from kmq.model import address_list

        found = address_list.read(os.fsencode(argument))
        if found.broken or not argument.isprintable():
            raise Fault(os.EX_USAGE, f"{argument[:80]!r} is no address")
        yield from (one.text for one in found.written)


def sender(written: str | None) -> str:
    """The envelope sender, "" for the null one; None stands for who calls."""
    if written is None:
        return user()
    if written.strip() in ("", "<>"):
        return ""
    found = list(addresses((written,)))
    if len(found) != 1:
        raise Fault(os.EX_USAGE, f"the sender {written[:80]!r} is not one address")
    return found[0]


def user() -> str:
    """The name of who calls, as the machine knows it: what the environment says counts for nothing."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def full_name(given: str | None) -> str:
    """The one given, else $NAME, else what the machine knows; `&` stands for the user's name there."""
    import pwd

    name = os.environ.get("NAME", "") if given is None else given
    if not name and given is None:
        try:
            entry = pwd.getpwuid(os.getuid())
        except KeyError:
            return ""
        name = entry.pw_gecos.partition(",")[0].replace("&", entry.pw_name.capitalize())
    return name[:_NAME_LIMIT]


def named_in(message: Letter) -> list[str]:
    """To, Cc and Bcc of the header; of a message that is sent on (Resent-To, Cc or Bcc), those of Resent- alone."""
    from kmq.model import address_list, fields

    header, _ = fields.split(message.beginning)
    if len(header) > fields.LIMIT:
        raise Fault(os.EX_DATAERR, f"the header has more than {fields.LIMIT} bytes")
    found = fields.read(header)
    resent = [one for one in found if one.name in (b"resent-to", b"resent-cc", b"resent-bcc")]
    named: list[str] = []
    for one in resent or [one for one in found if one.name in (b"to", b"cc", b"bcc")]:
        written = address_list.read(one.text, one.text.index(b":") + 1)
        texts = [each.text for each in written.written]
        if written.broken or not all(map(str.isprintable, texts)):
            raise Fault(os.EX_DATAERR, f"{one.name.decode().title()} has an entry that is no address")
        named += texts
    return named
