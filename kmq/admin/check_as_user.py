"""Can kmq-deliver be reached, where connectors deliver as users?

Promise:  connects, and asks for nothing; systemd may begin it because of that. Who may not connect hears nothing: only
          kmqd's user and root may.
Callers:  admin.check.
"""

import socket
from collections.abc import Iterator

from kmq.admin.verdict import Grade, Verdict
from kmq.config import Settings


def as_users(settings: Settings) -> Iterator[Verdict]:
    """Each socket once."""
    asking = [one for one in settings.connectors if one.as_user != "no" and one.enabled]
    for path, name in {one.deliver_socket: one.name for one in reversed(asking)}.items():
        place = settings.origin(name, "as_user").place
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
                connection.settimeout(5)
                connection.connect(path)
        except PermissionError:
            continue
        except OSError as error:
            text = f"{place}: [{name}] as_user: kmq-deliver cannot be reached at {path}: {error.strerror or error}"
            remedy = "systemctl enable --now kmq-deliver.socket, see kmq-deliver(8); until then this mail waits"
            yield Verdict(Grade.WRONG, text, remedy)
        else:
            yield Verdict(Grade.GOOD, f"kmq-deliver at {path}")
