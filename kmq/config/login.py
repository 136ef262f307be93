"""How a connector presents itself to a server: the addresses that it speaks from, and the ways to log in.

Promise:  as in `kinds`.
Callers:  `connector`.
"""

from ipaddress import ip_address

from kmq.config.kinds import Kind, parts

#: The ways to log in that kmq knows, the strongest first; `auto` takes the first one that the server knows too.
MECHANISMS = ("xoauth2", "cram-md5", "plain", "login")


def _sources(text: str) -> tuple[str, ...]:
    found: dict[int, str] = {}
    for part in parts(text):
        try:
            address = ip_address(part)
        except ValueError:
            raise ValueError(
                f"{part!r} is no address: write one of this machine, such as 192.0.2.25, 2001:db8::25"
            ) from None
        if address.is_unspecified or address.is_multicast:
            raise ValueError(f"{part!r} is no address that mail can come from: name one of this machine")
        if address.version in found:
            raise ValueError(f"{part!r} is the second address of IPv{address.version}: one of each at most")
        found[address.version] = str(address)
    return tuple(found.values())


def source_addresses() -> Kind[tuple[str, ...]]:
    """At most one address of IPv4 and one of IPv6."""
    return Kind("address of this machine, of IPv4, of IPv6, or one of each", _sources)
