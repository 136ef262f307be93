"""Debian's Dovecot as a server of mailboxes: LMTP on a Unix socket, unprivileged, with its Maildirs in a folder.

Nothing of the machine's own configuration is read. Its master process and all that it begins are ended with the block.
"""

import grp
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import until

LMTP = Path("/usr/lib/dovecot/lmtp")

#: Users are those of a passwd file; nobody logs in, so there are no passwords.
CONFIG = """
base_dir = {base}/run
state_dir = {base}/state
instance_name = kmq-test
log_path = {base}/log
default_login_user = {user}
default_internal_user = {user}
default_internal_group = {group}
first_valid_uid = 0
ssl = no
protocols = lmtp
mail_location = maildir:{base}/mail/%u
auth_username_format = %Ln
lmtp_save_to_detail_mailbox = no
recipient_delimiter = +
mail_plugins = quota
lmtp_user_concurrency_limit = 100
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
service auth {{
  user = {user}
}}
service lmtp {{
  user = {user}
  process_limit = 5
  unix_listener {base}/lmtp {{
    mode = 0600
  }}
}}
passdb {{
  driver = passwd-file
  args = {base}/users
}}
userdb {{
  driver = passwd-file
  args = {base}/users
  override_fields = uid={uid} gid={gid} home={base}/home/%u
}}
plugin {{
  quota = maildir:User quota
}}
"""


@dataclass
class Dovecot:
    """socket: where it listens; mail: the folder of its Maildirs."""

    socket: Path
    mail: Path
    log: Path

    def messages(self, user: str) -> list[bytes]:
        """What is in a user's inbox."""
        return [path.read_bytes() for path in sorted((self.mail / user / "new").glob("*"))]


@contextmanager
def dovecot(users: Mapping[str, str]) -> Iterator[Dovecot]:
    """A running one. users: name -> further fields of his line, as `userdb_quota_rule=*:bytes=10K`.

    It delivers to no root, so where the tests are root's it is the user mail's, below a folder that he can get to.
    """
    program = shutil.which("dovecot", path="/usr/sbin:/usr/bin")
    if not LMTP.exists() or program is None:
        pytest.skip("needs dovecot-lmtpd (Debian: dovecot-lmtpd)")
    me = pwd.getpwnam("mail") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    with tempfile.TemporaryDirectory(prefix="kmq-dovecot-") as folder:
        base = Path(folder)
        config = base / "dovecot.conf"
        group = grp.getgrgid(me.pw_gid).gr_name
        config.write_text(CONFIG.format(base=base, user=me.pw_name, group=group, uid=me.pw_uid, gid=me.pw_gid))
        (base / "users").write_text("".join(f"{name}:::::::{more}\n" for name, more in users.items()))
        for path in (base, *base.iterdir()):
            os.chown(path, me.pw_uid, me.pw_gid)
        with _running(
            [program, "-F", "-c", str(config)], me, Dovecot(base / "lmtp", base / "mail", base / "log")
        ) as one:
            yield one


@contextmanager
def _running(command: list[str], me: pwd.struct_passwd, made: Dovecot) -> Iterator[Dovecot]:
    who = {"user": me.pw_uid, "group": me.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **who)
    try:
        until(lambda: made.socket.exists() or process.poll() is not None, "Dovecot listens")
        assert process.poll() is None, made.log.read_text()
        yield made
    finally:
        process.terminate()
        process.wait(60)
