"""What the benchmark sees of kmq from outside: its checkpoints and its queue."""

import time

from bench.kmq import SESSIONS_PER_CLIENT, Kmq, build
from bench.mta import Ways
from kmq.config import load
from kmq.log.lines import Log
from kmq.log.outlet import Descriptor


def test_checkpoints_are_read_from_the_log(tmp_path):
    mta = Kmq(tmp_path, 2525, 2526)
    with (tmp_path / "log").open("wb") as file:
        log = Log(Descriptor(file.fileno()), "scheduler-1[42]")
        log.event("accepted", "69212ad0-0000a1f3", {"sender": "a checkpoint ms=5"})
        assert mta.checkpoints() == []
        before = time.monotonic()
        log.event("checkpoint", "", {"generation": 7, "ms": 250})
        after = time.monotonic()
    (span,) = mta.checkpoints()
    assert before - 0.005 <= span.end <= after + 0.005  # the log's time is in milliseconds
    assert 0.25 <= span.end - span.begin <= 0.26


def test_a_line_that_is_not_whole_yet_is_read_later(tmp_path):
    mta = Kmq(tmp_path, 2525, 2526)
    line = "2026-11-22T05:50:11.123Z scheduler-1[42]: checkpoint generation=7 ms=12"
    for text, found in ((line[:-1], 0), (line, 0), (line + "\n", 1), (line + "\n" + line + "\n", 2)):
        (tmp_path / "log").write_text(text)
        assert len(mta.checkpoints()) == found


def test_the_queue_is_counted_by_envelopes(tmp_path):
    folder = tmp_path / "spool/queue/69212-0000"
    folder.mkdir(parents=True)
    (tmp_path / "spool/queue/README.md").touch()
    for name in ("69212ad0-00000001", "69212ad0-00000002"):
        (folder / f"{name}.env").touch()
        (folder / f"{name}.eml").touch()
    assert Kmq(tmp_path, 2525, 2526).waiting() == 2


def test_the_configuration_is_one_that_kmq_takes(tmp_path):
    settings = configured(tmp_path, 20)
    assert settings.receivers[0].listen == (("127.0.0.1", 2525),)
    assert settings.receivers[0].sessions_per_client == SESSIONS_PER_CLIENT
    assert settings.receivers[0].unlimited_clients == ()
    assert [(one.hosts, one.address_spaces) for one in settings.connectors] == [
        ((("127.0.0.1", 2526),), ("*",)),
        ((("127.0.0.1", 2527),), ("probe.test",)),
    ]


def test_a_client_with_many_connections_is_let_in(tmp_path):
    settings = configured(tmp_path, 200)
    assert [str(one) for one in settings.receivers[0].unlimited_clients] == ["127.0.0.0/8"]


def configured(folder, connections):
    mta = Kmq.on(folder, Ways(2525, 2526, 2527))
    mta.expect(connections)
    path = folder / "kmq.conf"
    path.write_text(mta.configuration.format(folder=folder, port=mta.port, hop_port=mta.hop_port))
    return load(str(path))


def test_what_is_measured_is_named():
    found = build()
    assert found["python"].startswith("3.")
    assert isinstance(found["compiled"], int)
