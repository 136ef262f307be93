"""The client's transaction as a table: what the server says, what follows for whom."""

import random
from itertools import product

import pytest

from kmq.model.reply import Reply
from kmq.phases.lmtp import LmtpTransaction
from kmq.phases.transaction import TABLE, Deed, Stage, Transaction

MAIL = b"MAIL FROM:<s@x>\r\n"


def begun(count: int, pipelining: bool = True, reset: bool = False) -> Transaction:
    return Transaction(MAIL, [(n, b"RCPT TO:<%d@x>\r\n" % n) for n in range(count)], pipelining, reset)


def play(transaction: Transaction, *replies: str) -> tuple[list[Deed], bytes]:
    """Feeds the replies; the deeds other than WAIT, and all that was written after the first write."""
    deeds: list[Deed] = []
    written = b""
    for line in replies:
        deed = transaction.replied(int(line[:3]), line[4:].encode())
        if deed is not Deed.WAIT:
            deeds.append(deed)
        if deed is Deed.WRITE:
            written += transaction.out
        if deed is Deed.SEND:
            written += b"<body>"
            transaction.dot_sent()
    return deeds, written


def codes(transaction: Transaction) -> dict[int, int]:
    return {index: reply.code for index, reply in transaction.verdicts}


def test_with_pipelining_everything_up_to_data_is_one_write() -> None:
    transaction = begun(2)
    assert transaction.out == MAIL + b"RCPT TO:<0@x>\r\nRCPT TO:<1@x>\r\nDATA\r\n"
    deeds, written = play(transaction, "250 ok", "250 ok", "251 forwarded", "354 go", "250 2.0.0 queued")
    assert (deeds, written) == ([Deed.SEND, Deed.END], b"<body>")
    assert transaction.verdicts == [(0, Reply(250, "2.0.0", "queued")), (1, Reply(250, "2.0.0", "queued"))]
    assert not transaction.unclean
    assert not transaction.uncertain


def test_without_pipelining_each_command_waits_for_its_reply() -> None:
    transaction = begun(2, pipelining=False)
    assert transaction.out == MAIL
    deeds, written = play(transaction, "250 ok", "250 ok", "250 ok", "354 go", "250 queued")
    assert written == b"RCPT TO:<0@x>\r\nRCPT TO:<1@x>\r\nDATA\r\n<body>"
    assert deeds == [Deed.WRITE, Deed.WRITE, Deed.WRITE, Deed.SEND, Deed.END]
    assert codes(transaction) == {0: 250, 1: 250}


@pytest.mark.parametrize("said", ["450", "552"])
def test_after_a_refused_text_the_session_is_reset(said: str) -> None:
    """Postfix keeps the sender in mind when its smtpd_end_of_data_restrictions refuse, and minds the next MAIL."""
    transaction = begun(1)
    play(transaction, "250", "250", "354", said)
    assert transaction.unclean
    of_lmtp = LmtpTransaction(MAIL, [(0, b"RCPT TO:<0@x>\r\n"), (1, b"RCPT TO:<1@x>\r\n")], pipelining=True)
    play(of_lmtp, "250", "250", "250", "354", said, "250")
    assert of_lmtp.unclean


# (replies with pipelining, verdicts, deeds, over). One row for each way in which a transaction of three can go.
PIPELINED = [
    (["250", "250", "550", "250", "354", "250"], {0: 250, 1: 550, 2: 250}, [Deed.SEND, Deed.END], []),
    (["250", "450", "550", "250", "354", "250"], {0: 450, 1: 550, 2: 250}, [Deed.SEND, Deed.END], []),
    (["250", "550", "550", "450", "554"], {0: 550, 1: 550, 2: 450}, [Deed.END], []),
    # nobody accepted, DATA accepted all the same: a lone dot, whose answer is for nobody (RFC 2920 3.1)
    (["250", "550", "550", "550", "354", "554"], {0: 550, 1: 550, 2: 550}, [Deed.WRITE, Deed.END], []),
    (["250", "550", "550", "550", "354", "250"], {0: 550, 1: 550, 2: 550}, [Deed.WRITE, Deed.END], []),
    # MAIL refused: the replies to what was already sent say nothing
    (["550", "503", "503", "503", "503"], {0: 550, 1: 550, 2: 550}, [Deed.END], []),
    (["450", "503", "503", "503", "354", "554"], {0: 450, 1: 450, 2: 450}, [Deed.WRITE, Deed.END], []),
    # ... or that the server goes on with an earlier sender's: a lone dot would be a message from him
    (["503", "250", "250", "250", "354"], {0: 503, 1: 503, 2: 503}, [Deed.CLOSE], []),
    (["503", "503", "250", "503", "354"], {0: 503, 1: 503, 2: 503}, [Deed.CLOSE], []),
    (["450", "250", "250", "250", "503"], {0: 450, 1: 450, 2: 450}, [Deed.END], []),
    # DATA refused after recipients were accepted
    (["250", "250", "550", "250", "554"], {0: 554, 1: 550, 2: 554}, [Deed.END], []),
    (["250", "250", "250", "250", "451"], {0: 451, 1: 451, 2: 451}, [Deed.END], []),
    # after the dot
    (["250", "250", "250", "250", "354", "451"], {0: 451, 1: 451, 2: 451}, [Deed.SEND, Deed.END], []),
    (["250", "250", "250", "250", "354", "554"], {0: 554, 1: 554, 2: 554}, [Deed.SEND, Deed.END], []),
    # too many recipients (RFC 5321 4.5.3.1.10), in both spellings
    (["250", "250", "452", "452", "354", "250"], {0: 250}, [Deed.SEND, Deed.END], [1, 2]),
    (["250", "250", "552", "250", "354", "250"], {0: 250, 2: 250}, [Deed.SEND, Deed.END], [1]),
    (["250", "452", "552", "550", "503"], {0: 452, 1: 452, 2: 550}, [Deed.END], []),
    # the mailbox is full: that is no matter of their number
    (["250", "250", "452 4.2.2 full", "552 5.2.2 full", "354", "250"], {0: 250, 1: 452, 2: 552}, [Deed.SEND, Deed.END],
     []),
    # 421 wherever it comes
    (["421"], {0: 421, 1: 421, 2: 421}, [Deed.CLOSE], []),
    (["250", "250", "550", "421"], {0: 421, 1: 550, 2: 421}, [Deed.CLOSE], []),
    (["250", "250", "250", "250", "421"], {0: 421, 1: 421, 2: 421}, [Deed.CLOSE], []),
    (["250", "250", "250", "250", "354", "421"], {0: 421, 1: 421, 2: 421}, [Deed.SEND, Deed.CLOSE], []),
    (["250", "550", "550", "550", "354", "421"], {0: 550, 1: 550, 2: 550}, [Deed.WRITE, Deed.CLOSE], []),
    # breaches of the protocol: temporary, and the connection is done with
    (["354"], {0: 451, 1: 451, 2: 451}, [Deed.CLOSE], []),
    (["250", "354"], {0: 451, 1: 451, 2: 451}, [Deed.CLOSE], []),
    (["250", "250", "550", "250", "250"], {0: 451, 1: 550, 2: 451}, [Deed.CLOSE], []),
    (["250", "250", "550", "250", "354", "354"], {0: 451, 1: 550, 2: 451}, [Deed.SEND, Deed.CLOSE], []),
]  # fmt: skip


@pytest.mark.parametrize(("replies", "verdicts", "deeds", "over"), PIPELINED)
def test_pipelined(replies: list[str], verdicts: dict[int, int], deeds: list[Deed], over: list[int]) -> None:
    transaction = begun(3)
    found, written = play(transaction, *replies)
    assert (codes(transaction), found, transaction.over) == (verdicts, deeds, over)
    assert b"<body>" not in written or any(code not in (550, 452) for code in verdicts.values())
    if Deed.WRITE in deeds:
        assert written == b".\r\n"


ONE_BY_ONE = [
    (["550"], {0: 550, 1: 550}, b""),
    (["250", "550", "550"], {0: 550, 1: 550}, b"RCPT TO:<0@x>\r\nRCPT TO:<1@x>\r\n"),  # no DATA for nobody
    (["250", "250", "550", "554"], {0: 554, 1: 550}, b"RCPT TO:<0@x>\r\nRCPT TO:<1@x>\r\nDATA\r\n"),
    (["250", "550", "250", "354", "250"], {0: 550, 1: 250}, b"RCPT TO:<0@x>\r\nRCPT TO:<1@x>\r\nDATA\r\n<body>"),
]


@pytest.mark.parametrize(("replies", "verdicts", "written"), ONE_BY_ONE)
def test_one_by_one(replies: list[str], verdicts: dict[int, int], written: bytes) -> None:
    transaction = begun(2, pipelining=False)
    deeds, found = play(transaction, *replies)
    assert deeds[-1] is Deed.END
    assert (codes(transaction), found) == (verdicts, written)


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_session_that_was_left_in_mid_transaction_is_reset_first(pipelining: bool) -> None:
    before = begun(1, pipelining)
    play(before, "250", "550", *(["554"] if pipelining else []))
    assert before.unclean, "the server may still have the sender in mind"
    transaction = begun(1, pipelining, reset=before.unclean)
    assert transaction.out.startswith(b"RSET\r\n")
    assert not transaction.begun
    play(transaction, "250")
    assert not transaction.begun, "RSET is not yet the message"
    play(transaction, "250", "250", "354", "250")
    assert codes(transaction) == {0: 250}
    assert not transaction.unclean


def test_only_after_the_dot_it_is_uncertain() -> None:
    replies = ["250", "250", "354"]
    for count in range(4):
        transaction = begun(1)
        play(transaction, *replies[:count])
        transaction.lost(Reply(451, "4.4.2", "gone"))
        assert transaction.uncertain == (count == 3)
        assert codes(transaction) == {0: 451}
        assert transaction.begun == (count > 0)


def test_a_refusal_in_the_middle_of_the_body_counts_and_ends_the_connection() -> None:
    transaction = begun(2)
    for line in ("250", "250", "550", "354"):
        deed = transaction.replied(int(line), b"")
    assert deed is Deed.SEND
    assert transaction.replied(552, b"5.3.4 too big") is Deed.CLOSE
    assert codes(transaction) == {0: 552, 1: 550}
    assert not transaction.uncertain


def test_whatever_the_server_says_everybody_gets_one_verdict() -> None:
    """Random replies: it ends, each recipient has one verdict or is left for later, no body goes to nobody."""
    chance = random.Random(2920)
    for _ in range(4000):
        count = chance.randrange(1, 6)
        transaction = begun(count, chance.random() < 0.5, chance.random() < 0.3)
        sent = False
        for _ in range(count + 5):
            code = chance.choice([250, 250, 250, 250, 354, 450, 452, 550, 552, 421, 220])
            deed = transaction.replied(code, b"")
            if deed is Deed.SEND:
                assert transaction.accepted
                sent = True
                transaction.dot_sent()
            if deed in (Deed.END, Deed.CLOSE):
                break
        else:
            raise AssertionError("a transaction without end")
        have = [index for index, _ in transaction.verdicts]
        assert sorted(have + transaction.over) == list(range(count))
        delivered = {index for index, reply in transaction.verdicts if reply.done}
        assert delivered <= set(transaction.accepted if sent else ())
        assert not transaction.over or transaction.accepted, "a further transaction would not get further"


def test_the_table_has_no_row_that_cannot_be_reached() -> None:
    reached: set[tuple[Stage, int]] = set()
    for pipelining, reset, lines in product((True, False), (True, False), product((2, 3, 4, 5), repeat=5)):
        transaction = begun(1, pipelining, reset)
        for digit in lines:
            stage = transaction.stage
            deed = transaction.replied(digit * 100 + 50, b"")
            reached.add((stage, digit))
            if deed in (Deed.END, Deed.CLOSE):
                break
            if deed is Deed.SEND:
                for other in (4, 5):
                    reached.add((Stage.BODY, other))
                transaction.dot_sent()
    assert set(TABLE) <= reached
