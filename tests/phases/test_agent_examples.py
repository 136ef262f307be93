"""The agents that kmq brings along, and the one in the manual, with mail."""

import os
from pathlib import Path

from kmq.config.sections import ConnectorSection
from tests.phases.programs import World, agent, play, work
from tests.phases.sending import kinds, results

TREE = Path(__file__).resolve().parents[2]


def connector(*command: str) -> ConnectorSection:
    return ConnectorSection(name="fax", type="agent", helo="", address_spaces=("fax",), command=command)


def test_the_one_in_the_manual(tmp_path: Path) -> None:
    page = (TREE / "man/kmq-agent.5").read_text()
    text = page.partition(".Sh EXAMPLES")[2].partition(".Bd -literal -offset indent\n")[2].partition(".Ed")[0]
    section = agent(tmp_path)
    (tmp_path / "agent").write_text(text)

    async def story(world: World) -> None:
        assert results(await world.outcome(work("1@fax", "2@fax"))) == {
            0: ("Delivered", "250 2.0.0 taken"),
            1: ("Delivered", "250 2.0.0 taken"),
        }

    play(tmp_path, story, section)


def test_into_a_folder(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.mkdir()

    async def story(world: World) -> None:
        for _ in range(2):
            assert kinds(await world.outcome(work("1@fax", "2@fax"))) == "DD"
        assert sorted(os.listdir(gate)) == ["69212ad0-00000001.0", "69212ad0-00000001.1"]
        assert (gate / "69212ad0-00000001.0").read_bytes().endswith(b"Subject: x\r\n\r\nhello\r\n")
        for path in [*gate.iterdir()]:
            path.unlink()
        gate.rmdir()
        found = await world.outcome(work())
        assert results(found) == {0: ("Deferred", "451 4.3.0 No such file or directory")}

    play(tmp_path, story, connector(str(TREE / "etc/agents/to-folder.py"), str(gate)))


def test_to_a_command(tmp_path: Path) -> None:
    """What the shell is given by strangers stands in JSON's quotes, and means nothing to it."""
    command = tmp_path / "command"
    command.write_text(
        f'#!/bin/sh\nif [ -e {tmp_path}/status ]; then read -r status <{tmp_path}/status; exit "$status"; fi\n'
        f"cat >{tmp_path}/seen\n"
    )
    command.chmod(0o755)
    odd = work("1@fax", number=2, sender='"x\\"n\\":99,$(touch /tmp/x)`id`"@kmq.test')

    async def story(world: World) -> None:
        assert results(await world.outcome(work())) == {0: ("Delivered", "250 2.0.0 done")}
        assert (tmp_path / "seen").read_bytes().endswith(b"hello\r\n")
        assert kinds(await world.outcome(odd)) == "D"
        (tmp_path / "status").write_text("75\n")
        assert kinds(await world.outcome(work(number=3))) == "d"
        (tmp_path / "status").write_text("1\n")
        assert results(await world.outcome(work(number=4))) == {0: ("Failed", "554 5.3.0 refused by the command")}

    play(tmp_path, story, connector(str(TREE / "etc/agents/to-command.sh"), str(command)))
