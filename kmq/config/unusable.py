"""A file that an option names and that cannot be used: what is wrong with it, and what would be right.

Promise:  looks only, and reads a byte at most.
Callers:  `certificates`, `client_tls`.
"""

from typing import NamedTuple

from kmq.config.sections import ConnectorSection, ReceiverSection

Named = ReceiverSection | ConnectorSection


class Unusable(NamedTuple):
    """option: where to mend it; text: what is wrong; remedy: what would be right."""

    option: str
    text: str
    remedy: str


def unusable_as(section: Named, option: str, wrong: str, remedy: str) -> Unusable:
    """`tls_key = /k.pem is protected by a passphrase`."""
    return Unusable(option, f"{option} = {getattr(section, option)} {wrong}", remedy)


def unread(section: Named, option: str, without: str) -> Unusable | None:
    """Why this user cannot read the file; without: what to do when there is none."""
    try:
        with open(getattr(section, option), "rb") as file:
            file.read(1)
    except FileNotFoundError:
        return unusable_as(section, option, "is not there", without)
    except PermissionError:
        return unusable_as(section, option, "cannot be read by this user", "let the group of kmqd's user read it")
    except OSError as error:
        return unusable_as(section, option, f"cannot be read: {error.strerror}", "name a file")
    return None
