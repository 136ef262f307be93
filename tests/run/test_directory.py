"""Who tells a worker where servers are: loaded only where it is needed, and what a reload makes of it."""

import asyncio
import subprocess
import sys

from kmq.config import Settings, read
from kmq.run.directory import Directories

DNS = "[world : connector]\ntype = dns\naddress_spaces = *\n"
ISP = "[isp : connector]\ntype = smarthost\naddress_spaces = *\nhosts = smtp.isp.example\n"


def settings(text: str) -> Settings:
    return read(text, "kmq.conf", "/etc/kmq", "mx1.example.org")


def test_smart_hosts_need_none_of_it() -> None:
    code = (
        "import sys\nfrom kmq.config import read\nfrom kmq.run.directory import Directories\nimport kmq.run.walk\n"
        f"assert Directories().of(read({ISP!r}, 'k', '/', 'h.test')) is None\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'dns']\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_a_reload_forgets_answers_and_keeps_what_asks_unless_it_asks_otherwise() -> None:
    async def play() -> None:
        directories = Directories()
        first = directories.of(settings(DNS))
        assert first is not None
        first._lookups._known["d.test", "MX"] = (None, 1e18)  # type: ignore[assignment]
        assert directories.of(settings(DNS)) is first
        assert not first._lookups._known
        assert directories.of(settings("[kmq]\ndns_servers = 192.0.2.53\n" + DNS)) is not first
        assert directories.of(settings(ISP)) is None
        await directories.close()

    asyncio.run(play())
