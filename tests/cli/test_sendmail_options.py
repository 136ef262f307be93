"""The options of sendmail, as programs write them."""

import pytest

from kmq.cli.sendmail_options import Options, WrongUsage, read


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("-t -i", Options(from_header=True, dot_ends=False)),
        ("-ti", Options(from_header=True, dot_ends=False)),
        ("-oi -t", Options(from_header=True, dot_ends=False)),
        ("-o i a", Options(dot_ends=False, recipients=("a",))),
        ("-oem -odb -oi a", Options(dot_ends=False, recipients=("a",))),
        ("-em a", Options(recipients=("a",))),
        ("-fb a", Options(sender="b", recipients=("a",))),
        ("-f b a", Options(sender="b", recipients=("a",))),
        ("-tfb", Options(sender="b", from_header=True)),
        ("-FJoe -f joe@x.test -- -t", Options(name="Joe", sender="joe@x.test", recipients=("-t",))),
        ("a -t", Options(recipients=("a", "-t"))),
        ("- a", Options(recipients=("-", "a"))),
        ("-bm -N success,failure,delay a", Options(notify="SUCCESS,FAILURE,DELAY", recipients=("a",))),
        ("-NNEVER -R FULL -B8bitmime -V x a", Options("m", notify="NEVER", ret="FULL", body="8BITMIME", envid="x",
                                                     recipients=("a",))),
        ("-O QueueDirectory=/x -oQ/tmp -X /tmp/log -C /x a", Options(configuration="/x", recipients=("a",))),
        ("-bs", Options("s")),
        ("-bd -q30m", Options("d", queue="30m")),
        ("-q", Options("q")),
        ("-qIabc", Options("q", queue="Iabc")),
        ("-G -n -m -U -x -L tag -h 3 -p ESMTP:x -A c a", Options(recipients=("a",))),
        ("-v -bv a", Options("v", verbose=True, recipients=("a",))),
    ],
)  # fmt: skip
def test_what_is_meant(words: str, wanted: Options) -> None:
    assert read("/usr/sbin/sendmail", words.split(" ")) == wanted


def test_a_sender_may_be_empty() -> None:
    assert read("sendmail", ["-f", "", "a"]) == Options(sender="", recipients=("a",))


def test_other_names() -> None:
    assert read("/usr/bin/mailq", []).mode == "p"
    assert read("/usr/bin/newaliases", []).mode == "i"


@pytest.mark.parametrize(
    "words", ["-Z", "-bt", "-b", "-f", "-tF", "-N,", "-Nnever,delay", "-R", "-Rboth", "-V é", "-s"]
)
def test_what_cannot_be_meant(words: str) -> None:
    with pytest.raises(WrongUsage):
        read("sendmail", words.split(" "))
