"""A new configuration that our own program fails on: the old one stays, and whoever asked is told."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from kmq.config import load
from kmq.run.children import Child
from kmq.run.inheritance import Estate
from kmq.run.renewal import Renewal
from tests.waiting import free_port, listening


def test_a_mistake_of_ours_is_an_answer_too(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "spool" / "run").mkdir(parents=True)
    (tmp_path / "kmq.conf").write_text(
        f"[kmq]\nhostname = mx.us.test\nspool = {tmp_path}/spool\n[mx : receiver]\nlisten = 127.0.0.1:{port}\n"
    )

    def children() -> Iterator[Child]:
        raise LookupError("mistake")

    async def story() -> None:
        estate = Estate(load(str(tmp_path / "kmq.conf")), {})
        renewal = Renewal(estate, (), children, lambda: None)
        answer = await renewal.renew(7)
        assert (answer.token, answer.n, answer.status) == (7, 1, 70)
        assert answer.problem == "our program failed on it: LookupError"
        assert renewal.estate is estate and renewal.changeover is None
        assert not listening(port), "what was bound for it is closed"

    asyncio.run(story())
