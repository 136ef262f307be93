"""ORCPT: the address that a recipient had in the beginning, as DSN parameters bear it (RFC 3461 4.2, RFC 6533 3).

Promise:  ASCII without blanks, whatever the address holds.
"""


def orcpt_of(address: str) -> str:
    """An address in canonical text -> `rfc822;xtext`, or `utf-8;...` when it is not ASCII."""
    if address.isascii():
        return "rfc822;" + "".join(_xtext(sign) for sign in address)
    return "utf-8;" + "".join(_utf8_xtext(sign) for sign in address)


def _xtext(sign: str) -> str:
    return sign if "!" <= sign <= "~" and sign not in "+=" else f"+{ord(sign):02X}"


def _utf8_xtext(sign: str) -> str:
    return sign if "!" <= sign <= "~" and sign not in "+=\\" else f"\\x{{{ord(sign):X}}}"
