"""Any bytes in any cuts: no exception, bounded memory, one reply per command at most, and always the same outcome."""

import random
import re
import time
import tracemalloc

import pytest

from tests.intake.doors import Talk, receiver

LINES = [
    b"EHLO c\r\n", b"HELO c\r\n", b"MAIL FROM:<a@a.test>\r\n", b"MAIL FROM:<> SIZE=9 BODY=8BITMIME\r\n",
    b"RCPT TO:<bob@us.test>\r\n", b"RCPT TO:<nobody@us.test>\r\n", b"RCPT TO:<v@v.test>\r\n", b"DATA\r\n", b"RSET\r\n",
    b"RCPT TO:<carol@us.test> NOTIFY=NEVER ORCPT=rfc822;x\r\n", b"NOOP\r\n", b"QUIT\r\n", b"VRFY x\r\n", b"HELP\r\n",
    b"BDAT 5\r\nabcde", b"BDAT 4 LAST\r\nab\r\n", b"BDAT 0 LAST\r\n", b"BDAT 300\r\n" + b"A: b\r\n" * 50,
    b"BDAT x\r\n", b"STARTTLS\r\n", b"FOO\r\n", b"\r\n", b"NOOP\n", b"NOOP \0\r\n", b"GET / HTTP/1.1\r\n",
    b"\xff\xfe\r\n", b"x" * 3000, b"MAIL FROM:<\xd0\xb6@a> SMTPUTF8\r\n", b"EHLO x\ry\r\n", b"AUTH LOGIN\r\n",
    b"BDAT 100000\r\n",
]  # fmt: skip
CONTENTS = [
    b".\r\n", b"Subject: x\r\n\r\nhello\r\n.\r\n", b"x\r\n" * 200 + b".\r\n", b"..\r\n.\r\n", b"a\nb\r\n.\r\n",
    b"N\0L\r\n.\r\n", b"y" * 2000 + b"\r\n.\r\n", b"Received: x\r\n" * 60 + b"\r\n.\r\n", b"z\r\n", b"\xe9" * 900,
    b"A: b\r\n" * 3000 + b".\r\n",
]  # fmt: skip
#: In a good order, so that there are good messages too.
STORY = [b"EHLO c\r\n", b"MAIL FROM:<a@a.test>\r\n", b"RCPT TO:<bob@us.test>\r\n", b"DATA\r\n"]
LIMITS = {"size_limit": 20_000, "error_limit": 12, "command_limit": 15, "hop_limit": 50}


#: How many IDs were reserved in vain depends on the cuts: a fault may be seen before the message is large.
ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{8}")


def flights(chance: random.Random) -> list[bytes]:
    """What a client sends; it waits for the replies between two of them, as it must behind DATA and STARTTLS."""
    bricks: list[bytes] = []
    for _ in range(chance.randrange(1, 12)):
        story = STORY if chance.random() < 0.5 else chance.choices(LINES, k=chance.randrange(1, 8))
        bricks += story
        if chance.random() < 0.8:
            bricks.append(chance.choice(CONTENTS))
    gone = [b""]
    for brick in bricks:
        gone[-1] += brick
        if brick in (b"DATA\r\n", b"STARTTLS\r\n") or chance.random() < 0.1:
            gone.append(b"")
    return gone


def outcome(reads: list[bytes], slow: bool = False) -> tuple[object, ...]:
    client = Talk(section=receiver(**LIMITS), small_body=700, starttls=True)
    client.door.slow = slow
    for read in reads:
        client.send(read)
        while client.door.due:
            client.door.open_up()
        assert len(client.session._kept) <= max(2048, len(read)) or client.session.waiting
    client.perform(client.session.gone())
    assert all(body.state != "open" for body in client.door.bodies)
    messages = [(one.content, one.head.recipients, one.head.longest, one.head.dots) for one in client.door.messages]
    return ID.sub(b"ID", client.said), client.closed, messages


def check(seed: int) -> int:
    """One client, sent whole and in cuts, with a quick and a slow door. How many messages there were."""
    chance = random.Random(seed)
    sent = flights(chance)
    said, closed, messages = outcome(sent)
    assert said.count(b"\r\n") == len(said.splitlines())
    replies = sum(line[3:4] == b" " for line in said.splitlines())
    assert replies <= 2 + sum(flight.count(b"\n") for flight in sent)
    for size in (1, chance.randrange(1, 50), chance.randrange(50, 5000)):
        cut = [flight[at : at + size] for flight in sent for at in range(0, len(flight), size)]
        assert outcome(cut, slow=chance.random() < 0.5) == (said, closed, messages), f"seed {seed}, cut by {size}"
    return len(messages)


def test_the_same_bytes_have_the_same_outcome_however_they_are_cut():
    taken = sum(check(seed) for seed in range(60))
    assert taken > 20, "the fuzz should bring some mail in too"


@pytest.mark.torture(seconds=1)
def test_the_same_with_ever_other_bytes(torture_seconds):
    seed = random.SystemRandom().randrange(1 << 60)
    deadline = time.monotonic() + torture_seconds
    while time.monotonic() < deadline:
        seed += 1
        check(seed)


@pytest.mark.torture(seconds=1)
def test_noise_is_no_trouble(torture_seconds):
    seed = random.SystemRandom().randrange(1 << 60)
    deadline = time.monotonic() + torture_seconds
    while time.monotonic() < deadline:
        seed += 1
        chance = random.Random(seed)
        client = Talk(section=receiver(**LIMITS), greeted=chance.random() < 0.7, small_body=700)
        for _ in range(chance.randrange(30)):
            noise = chance.randbytes(chance.randrange(300))
            if chance.random() < 0.6:
                noise = bytes(octet if octet > 60 else chance.choice(b"\r\n \r\n.<>@:") for octet in noise)
            client.send(chance.choice(LINES + CONTENTS + STORY) if chance.random() < 0.5 else noise)
            assert len(client.session._kept) <= 20_000, f"seed {seed}"


HOSTILE = {
    "a line without end": [b"x" * 65536] * 400,
    "a content line without end": [*STORY, *[b"x" * 65536] * 400],
    "lines of two bytes": [*STORY, *[b"a\r\n" * 21845] * 100],
    "empty lines": [*STORY, *[b"\r\n" * 32768] * 100],
    "stuffed dots": [*STORY, *[b"..\r\n" * 16384] * 100],
    "a header without end": [*STORY, *[b"A: b\r\n" * 10000] * 10],
    "a header of one line": [*STORY, b"A:", *[b" b\r\n" * 20000] * 10],
    "bare LFs": [*STORY, *[b"\n" * 65536] * 100],
    "noise": [*STORY, *[bytes(range(256)) * 256] * 100],
    "a large chunk": [*STORY[:3], b"BDAT 6000000\r\n", *[b"a\r\n" * 20000] * 100],
    "many chunks": [*STORY[:3], *[b"BDAT 3\r\na\r\n" * 5000] * 4],
    "many small messages": [STORY[0], *[b"MAIL FROM:<>\r\nRCPT TO:<b@us.test>\r\nBDAT 1 LAST\r\nx" * 100] * 20],
    "recipients": [
        *STORY[:2],
        *[b"".join(b"RCPT TO:<u%d.%d@us.test>\r\n" % (n, m) for m in range(999)) for n in range(50)],
    ],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_memory_is_bounded_whatever_arrives(name):
    """Beside the read itself, the session and the deeds of one turn stay below 2 MiB."""
    client = Talk(section=receiver(size_limit=7_000_000))
    client.perform = lambda turn: [forget(client, deed) for deed in turn[1]]
    tracemalloc.start()
    try:
        for read in HOSTILE[name]:
            client.send(read)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20, f"{peak / 1048576:.1f} MiB"


def forget(client: Talk, deed: object) -> None:
    """A carrier that keeps nothing."""
    if type(deed).__name__ == "Reserve":
        client.perform(client.session.answered("69212ad0-00000001", None))
    elif type(deed).__name__ in ("Put", "PutLarge"):
        client.perform(client.session.answered("69212ad0-00000002", None))
