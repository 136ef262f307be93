"""Debian's rspamd with three symbols of our own, no network and no database."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kmq.phases.rspamd import Call
from tests.waiting import until

PROGRAM = shutil.which("rspamd") or shutil.which("rspamd", path="/usr/bin:/usr/sbin")
MISSING = "rspamd is not here: Debian's package is rspamd"

_CONFIGURATION = """\
options {{
  pidfile = "{folder}/pid";
  tempdir = "{folder}";
  hs_cache_dir = "{folder}";
  url_tld = "{folder}/tld";
  disable_hyperscan = true;
  filters = "";
  dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }}
  control_socket = "{folder}/control mode=0600";
}}
logging {{ type = "console"; level = "info"; }}
actions {{ reject = 15; rewrite_subject = 8; add_header = 6; greylist = 4; subject = "[JUNK] %s"; }}
worker "normal" {{ bind_socket = "{folder}/rspamd.sock mode=0666"; count = 1; }}
lua = "{folder}/rules.lua";
"""

#: A word in the text has so many points; the last one has fields added and removed, too.
_RULES = """\
local function word(name, text, score)
  rspamd_config:register_symbol({ name = name, score = score, callback = function(task)
    if not string.find(tostring(task:get_content()), text, 1, true) then return false end
    if name == 'KMQ_MILTER' then
      task:set_milter_reply({ add_headers = { ['X-Kmq-Seen'] = task:get_helo() }, remove_headers = { ['X-Evil'] = 0 } })
    end
    return true
  end })
end
word('KMQ_REJECT', 'kmq-spam-reject', 20)
word('KMQ_SUBJECT', 'kmq-spam-subject', 9)
word('KMQ_HEADER', 'kmq-spam-header', 7)
word('KMQ_GREYLIST', 'kmq-spam-greylist', 5)
word('KMQ_MILTER', 'kmq-spam-milter', 1)
"""


@contextmanager
def rspamd(folder: Path) -> Iterator[Path]:
    """A daemon while it lasts; the path of its socket."""
    assert PROGRAM, MISSING
    (folder / "tld").write_text("com\norg\ntest\n")  # the whole list takes seconds to be read
    (folder / "rules.lua").write_text(_RULES)
    (folder / "rspamd.conf").write_text(_CONFIGURATION.format(folder=folder))
    user = ("-u", "_rspamd", "-g", "_rspamd") if os.geteuid() == 0 else ()
    if user:
        shutil.chown(folder, "_rspamd")
    path = folder / "rspamd.sock"
    with open(folder / "log", "wb") as log:
        command = [PROGRAM, "-f", *user, "-c", str(folder / "rspamd.conf")]
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: daemon.poll() is not None or isinstance(Call(str(path), 5).ping(), str), "rspamd answers")
        assert daemon.poll() is None, (folder / "log").read_text("utf-8", "replace")
        yield path
    finally:
        daemon.terminate()
        daemon.wait(30)
