"""The listening sockets: bound once by the supervisor, so that no connection is lost when a child dies.

What:     `bind` finds a socket for each address of a configuration: one that systemd gave, one that is open since an
          earlier configuration, else a new one.
Promise:  all or none: when one address cannot be bound, none of the new ones stays open and the error names the section
          and why. What was given and belongs to nobody is refused. The socket between the processes is for this user
          alone (queue), and so are those of operators (control) and of who only looks (look), unless groups are named
          that may ask: then everybody may knock, and hears what he may (admin/rights). That of programs is for
          everybody (submit).
On crash: the names of the Unix sockets stay; the next supervisor, which holds kmqd's lock, replaces them.
Callers:  the supervisor; receivers find theirs by name.
"""

import errno
import os
import socket
import stat
from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from kmq.config import Settings
from kmq.config.kinds import write_endpoint
from kmq.config.sendmail import RECEIVER
from kmq.errors import ConfigError, ListenFailed
from kmq.run.activation import Given
from kmq.run.link import unix_name

QUEUE = "queue"
CONTROL = "control"
LOOK = "look"
SUBMIT = f"{RECEIVER}#0"  #: served by receivers, as those of a section are

#: The Unix sockets with their modes: in the run directory, but for that of programs, which may be elsewhere.
UNIX = {QUEUE: 0o600, CONTROL: 0o600, LOOK: 0o600, SUBMIT: 0o666}

BACKLOG = 1024

#: Where one listens: (host, port), or a path.
Address = tuple[str, int] | str

_HINTS = {
    errno.EADDRINUSE: "something else listens there",
    errno.EACCES: "not permitted; ports below 1024 need root or CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine does not have that address",
    errno.EAFNOSUPPORT: "this machine has no such protocol",
}
#: What another start, later, may find mended.
_TEMPORARY = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EMFILE, errno.ENFILE, errno.ENOBUFS})


def name_of(section: str, place: int) -> str:
    """The name under which a receiver section's `place`th listener is handed down."""
    return f"{section}#{place}"


def modes(settings: Settings) -> dict[str, int]:
    """The modes of the Unix sockets, as a configuration wants them."""
    groups = settings.kmq.operators_group or settings.kmq.viewers_group
    return UNIX | {CONTROL: 0o666, LOOK: 0o666} if groups else UNIX


def section_of(name: str) -> str:
    """The receiver section of a listener; "" for the Unix sockets."""
    return name.rpartition("#")[0]


def bind(
    settings: Settings, given: Sequence[Given] = (), held: Collection[socket.socket] = ()
) -> dict[str, socket.socket]:
    """All listeners by name, listening. ListenFailed when a later start may succeed, else ConfigError.

    given: by systemd; held: open since an earlier configuration. Both are used where they fit, and never closed here.
    """
    pool = {address: one for one in (*held, *(one.socket for one in given)) for address in addresses_of(one)}
    bound: dict[str, socket.socket] = {}
    opened: list[socket.socket] = []
    try:
        for want in _wanted(settings):
            one = pool.get(want.address)
            if one is None:
                one = _open(want, held)
                opened.append(one)
            elif one in bound.values():  # it takes IPv4 and IPv6
                _refuse_shared(want, one, bound)
                continue
            bound[want.name] = one
        _by_name(settings, given, bound)
    except BaseException:
        for one in opened:
            one.close()
        raise
    return bound


def close(sockets: dict[str, socket.socket]) -> None:
    """Closes and forgets them."""
    while sockets:
        sockets.popitem()[1].close()


def address_of(one: socket.socket) -> Address:
    """Where a socket listens."""
    found = one.getsockname()
    if one.family == socket.AF_UNIX:
        return os.path.realpath(os.fsdecode(found))
    return str(ip_address(found[0].partition("%")[0])), int(found[1])


def addresses_of(one: socket.socket) -> list[Address]:
    """The same, and 0.0.0.0 beside :: for one that takes both."""
    address = address_of(one)
    wide = one.family == socket.AF_INET6 and address[0] == "::"
    if wide and not one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return [address, ("0.0.0.0", int(address[1]))]
    return [address]


class _Want(NamedTuple):
    """One listener of the configuration.

    where: for people; mode: of a Unix socket's name; guarded: it lies in the run directory, which has kmqd's lock.
    """

    name: str
    address: Address
    where: str
    mode: int = 0
    guarded: bool = False


def _wanted(settings: Settings) -> Iterator[_Want]:
    for section in settings.receivers:
        for place, (host, port) in enumerate(section.listen):
            where = f"[{section.name}] listen = {write_endpoint(host, port)}"
            yield _Want(name_of(section.name, place), (str(ip_address(host)), port), where)
    for name, mode in modes(settings).items():
        path = settings.sendmail.socket if name == SUBMIT else settings.kmq.run_directory / f"{name}.sock"
        if path:
            real = os.path.realpath(path)
            guarded = os.path.dirname(real) == os.path.realpath(settings.kmq.run_directory)
            yield _Want(name, real, str(path), mode, guarded)


def _refuse_shared(want: _Want, one: socket.socket, bound: dict[str, socket.socket]) -> None:
    """One socket for two addresses does when one section has both."""
    owner = next(name for name, other in bound.items() if other is one)
    if section_of(owner) != section_of(want.name):
        raise ConfigError(
            f"{want.where}: systemd handed over one socket for this address and for one of [{section_of(owner)}]:"
            " kmq.socket needs BindIPv6Only=ipv6-only and a ListenStream= for each"
        )


def _by_name(settings: Settings, given: Sequence[Given], bound: dict[str, socket.socket]) -> None:
    """What fits no address belongs to the section of its name."""
    places = {section.name: len(section.listen) for section in settings.receivers}
    for one in given:
        if one.socket in bound.values():
            continue
        if one.name not in places or one.socket.family == socket.AF_UNIX:
            raise ConfigError(
                f"systemd handed over a socket that nobody here listens on, {_text(one.socket)} (FileDescriptorName="
                f"{one.name}): name it in `listen` of a receiver, or take it out of kmq.socket"
            )
        bound[name_of(one.name, places[one.name])] = one.socket
        places[one.name] += 1


def _text(one: socket.socket) -> str:
    address = address_of(one)
    return address if isinstance(address, str) else write_endpoint(*address)


# --- opening ----------------------------------------------------------------------------------------------------------


def _open(want: _Want, held: Collection[socket.socket]) -> socket.socket:
    if isinstance(want.address, str):
        return _unix(Path(want.address), want.mode, want.guarded)
    host, port = want.address
    rivals = [one for one in held if one.family != socket.AF_UNIX and one.getsockname()[1] == port]
    return _tcp(host, port, want.where, rivals)


def _tcp(host: str, port: int, where: str, rivals: Collection[socket.socket] = ()) -> socket.socket:
    """rivals: our own sockets that have the port at another address, which may be all of them."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        one = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _failed(where, error) from None
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # 0.0.0.0 beside [::], each for its own
        # From all addresses to some of them, or back, without a moment when nobody listens: the kernel lets both be
        # while both say so. Nobody says so otherwise: another kmqd of this user would listen beside us.
        _share_port((*rivals, one) if rivals else (), 1)
        try:
            one.bind((host, port))
            one.listen(BACKLOG)
        finally:
            _share_port((*rivals, one) if rivals else (), 0)
        one.setblocking(False)
    except OSError as error:
        one.close()
        raise _failed(where, error) from None
    return one


def _share_port(sockets: Collection[socket.socket], allowed: int) -> None:
    for one in sockets:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, allowed)


def _unix(path: Path, mode: int, guarded: bool) -> socket.socket:
    """Replaces what an earlier kmqd left."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o777 & ~mode)
    try:
        _make_way(path, guarded)
        with unix_name(path) as name:
            one.bind(name)
        one.listen(BACKLOG)
        one.setblocking(False)
    except OSError as error:
        one.close()
        raise _failed(str(path), error) from None
    finally:
        os.umask(mask)
    return one


def _make_way(path: Path, guarded: bool) -> None:
    """Unlinks a socket that nobody needs any more, and nothing else: the path is out of the configuration.

    Whoever comes here holds kmqd's lock, so what is guarded by it is needed by nobody; at another, somebody may listen.
    """
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise OSError(errno.ENOTSOCK, "something else is there, which is no socket: name another path, or move it away")
    if not guarded and _is_listening(path):
        raise OSError(errno.EADDRINUSE, "")
    path.unlink(missing_ok=True)


def _is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe, unix_name(path) as name:
        probe.setblocking(False)
        return probe.connect_ex(name) in (0, errno.EAGAIN)


def _failed(where: str, error: OSError) -> ConfigError | ListenFailed:
    text = f"{where}: {_HINTS.get(error.errno or 0, error.strerror or str(error))}"
    return ListenFailed(text) if error.errno in _TEMPORARY else ConfigError(text)
