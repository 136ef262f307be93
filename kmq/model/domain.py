"""Domain names: one spelling for each, so that two of them can be compared.

Promise:  what `canonical` returns is lower case, ASCII (A-labels for international names), and safe in file names,
          next hops and log lines.
"""

_LABEL = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


def canonical(domain: str) -> str:
    """A domain as people write it -> lower-case A-labels; ValueError says what is wrong (RFC 5321 2.3.5, RFC 5890)."""
    if not domain:
        raise ValueError("the domain is empty")
    if len(domain) > 255:
        raise ValueError("the domain has more than 255 characters")
    name = domain.lower() if domain.isascii() else _a_labels(domain)
    if name.endswith("."):
        raise ValueError(f"the domain {name!r} ends in a dot")
    for label in name.split("."):
        if not label or len(label) > 63 or not _LABEL.issuperset(label):
            raise ValueError(f"{name!r} is no domain name")
    if len(name) > 253:
        raise ValueError("the domain has more than 253 characters")
    return name


def _a_labels(domain: str) -> str:
    try:
        # Mapping may bring forth ASCII characters that are no letters; the check of the labels refuses those.
        return domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise ValueError(f"{domain!r} is no domain name") from None
