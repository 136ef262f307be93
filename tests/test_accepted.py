"""What receivers tell of a message that they took in: the line and the entry that anybody else would make of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kmq import log
from kmq.log import accepted, mail, tracking
from kmq.log.accepted import Accepted, bringer
from kmq.log.tracking_files import Keeping

ID = "69212ad0-0000a1f3"
SERVER = bringer({"client": "192.0.2.7", "helo": "mx.client.test", "proto": "ESMTP", "receiver": "mx"})
USER = bringer({"proto": "sendmail", "user": "ann lee", "receiver": "sendmail"})

MESSAGES = {
    "as most": Accepted(SERVER, "a@x.test", ("b@y.test",), 4096, "0.012", "<1@x.test>"),
    "of a user": Accepted(USER, "ann@y.test", ("b@y.test",), 7, "0.000"),
    "a report": Accepted(SERVER, "", ("b@y.test",), 7, "0.000"),
    "to two": Accepted(SERVER, "a@x.test", ("b@y.test", "c@y.test"), 7, "1.000"),
    "to very many": Accepted(SERVER, "a@x.test", tuple(f"u{n}@y.test" for n in range(250)), 7, "1.000"),
    "odd": Accepted(SERVER, '"a b"@x.test', ("пётр@почта.рф",), 7, "1.000", "<a b\x1b>", "a\nb", "the client had gone"),
    "long": Accepted(SERVER, "a" * 60 + "@x.test", ("b@y.test",), 7, "1.000", "<" + "m" * 500 + ">", "s" * 500),
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    tracking.begin(Keeping(tmp_path / "log", 1 << 20, 1 << 24, 86400), subjects=True)
    yield tmp_path / "log"
    tracking.begin(None)


def told(folder: Path, capfd: pytest.CaptureFixture[str]) -> tuple[list[str], list[dict[str, object]]]:
    """The lines of both logs so far, without their times."""
    tracking.begin(None)  # which writes what there is
    log.flush()
    entries = [json.loads(line) for file in sorted(folder.iterdir()) for line in file.read_text().splitlines()]
    for entry in entries:
        del entry["date-time"]
    return [line.split(": ", 1)[1] for line in capfd.readouterr().err.splitlines()], entries


@pytest.mark.parametrize("tls", [None, "TLSv1.3 TLS_AES_256_GCM_SHA384"])
@pytest.mark.parametrize("name", MESSAGES)
def test_it_is_told_as_anything_else(
    folder: Path, capfd: pytest.CaptureFixture[str], name: str, tls: str | None
) -> None:
    one = MESSAGES[name]
    accepted.tell(ID, one, tls)
    keys = {**one.by.keys, "from": one.sender, "delay": one.delay, "size": one.size, "nrcpt": len(one.recipients)}
    keys |= {"to": one.recipients[0]} if len(one.recipients) == 1 else {}
    keys |= {"msgid": one.message_id} if one.message_id else {}
    keys |= {"reason": one.reason} if one.reason else {}
    mail.tell("accepted", ID, keys, mail.Besides(one.recipients, one.subject), tls=tls)
    lines, entries = told(folder, capfd)
    half = len(entries) // 2
    assert len(lines) == 2 and lines[0] == lines[1]
    assert half == (3 if name == "to very many" else 1) and entries[:half] == entries[half:]


def test_nobody_need_keep_entries(capfd: pytest.CaptureFixture[str]) -> None:
    accepted.tell(ID, MESSAGES["as most"])
    assert capfd.readouterr().err.endswith(
        f"accepted {ID} from=<a@x.test> to=<b@y.test> delay=0.012 msgid=<1@x.test> client=192.0.2.7"
        " helo=mx.client.test proto=ESMTP receiver=mx size=4096 nrcpt=1\n"
    )
