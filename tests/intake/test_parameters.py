"""Parameters of MAIL and RCPT: what passes is kept, what could do harm does not pass."""

import pytest

from kmq.intake import parameters, replies
from kmq.intake.transaction import Sender
from kmq.model.envelope import Recipient

MAIL = [
    ("", Sender("a@b")),
    (" SIZE=0", Sender("a@b")),
    (" size=123", Sender("a@b", 123)),
    (" SIZE=99999999999999999999", Sender("a@b", 99999999999999999999)),
    (" BODY=7BIT", Sender("a@b")),
    (" BODY=8bitmime  SIZE=1", Sender("a@b", 1)),
    (" SMTPUTF8", Sender("a@b", 0, True)),
    (" RET=FULL", Sender("a@b", ret="FULL")),
    (" ret=hdrs ENVID=x+2By", Sender("a@b", ret="HDRS", envid="x+2By")),
    (" ENVID=" + "x" * 100, Sender("a@b", envid="x" * 100)),
    (" ", Sender("a@b")),
]
BAD_MAIL = [
    ("SIZE=1", replies.BAD_PARAMETER),
    (" SIZE", replies.BAD_PARAMETER),
    (" SIZE=", replies.BAD_PARAMETER),
    (" SIZE=-1", replies.BAD_PARAMETER),
    (" SIZE=1e3", replies.BAD_PARAMETER),
    (" SIZE=" + "1" * 21, replies.BAD_PARAMETER),
    (" SIZE=1 SIZE=2", replies.BAD_PARAMETER),
    (" BODY=BINARYMIME", replies.BAD_PARAMETER),
    (" SMTPUTF8=yes", replies.BAD_PARAMETER),
    (" RET=ALL", replies.BAD_PARAMETER),
    (" ENVID=", replies.BAD_PARAMETER),
    (" ENVID=" + "x" * 101, replies.BAD_PARAMETER),
    (" ENVID=a+0D+0Ab", replies.BAD_PARAMETER),
    (" ENVID=a+00", replies.BAD_PARAMETER),
    (" ENVID=a+7F", replies.BAD_PARAMETER),
    (" ENVID=a+2b", replies.BAD_PARAMETER),
    (" ENVID=a+", replies.BAD_PARAMETER),
    (" ENVID=a=b", replies.BAD_PARAMETER),
    (" ENVID=é", replies.BAD_PARAMETER),
    (" AUTH=<>", replies.UNKNOWN_PARAMETER),
    (" REQUIRETLS", replies.UNKNOWN_PARAMETER),
    (" NOTIFY=NEVER", replies.UNKNOWN_PARAMETER),
    (" HOLDFOR=3", replies.UNKNOWN_PARAMETER),
    (" =1", replies.UNKNOWN_PARAMETER),
    ("x", replies.BAD_PARAMETER),
]
RCPT = [
    ("", Recipient("a@b")),
    (" NOTIFY=NEVER", Recipient("a@b", "NEVER")),
    (" notify=Success,DELAY,failure", Recipient("a@b", "SUCCESS,DELAY,FAILURE")),
    (" ORCPT=rfc822;A+2B@B", Recipient("a@b", "", "rfc822;A+2B@B")),
    (" ORCPT=x-custom-7;!#$", Recipient("a@b", "", "x-custom-7;!#$")),
    (" ORCPT=UTF-8;ж@b NOTIFY=DELAY", Recipient("a@b", "DELAY", "UTF-8;ж@b")),
    (" ORCPT=utf-8;\\x{436}@b", Recipient("a@b", "", "utf-8;\\x{436}@b")),
    (" ORCPT=rfc822;" + "x" * 493, Recipient("a@b", "", "rfc822;" + "x" * 493)),
]
BAD_RCPT = [
    (" NOTIFY=", replies.BAD_PARAMETER),
    (" NOTIFY=NEVER,DELAY", replies.BAD_PARAMETER),
    (" NOTIFY=SOMETIMES", replies.BAD_PARAMETER),
    (" NOTIFY=DELAY NOTIFY=DELAY", replies.BAD_PARAMETER),
    (" ORCPT=", replies.BAD_PARAMETER),
    (" ORCPT=rfc822", replies.BAD_PARAMETER),
    (" ORCPT=rfc822;", replies.BAD_PARAMETER),
    (" ORCPT=;a@b", replies.BAD_PARAMETER),
    (" ORCPT=rfc822;a+0D+0AX@b", replies.BAD_PARAMETER),
    (" ORCPT=rfc822;ж@b", replies.BAD_PARAMETER),
    (" ORCPT=utf-8;", replies.BAD_PARAMETER),
    (" ORCPT=utf-8;\\x{D}\\x{0a}", replies.BAD_PARAMETER),
    (" ORCPT=utf-8;\\x{}", replies.BAD_PARAMETER),
    (" ORCPT=utf-8;\\x{D800}", replies.BAD_PARAMETER),
    (" ORCPT=utf-8;\\x{FFFFFFFFF}", replies.BAD_PARAMETER),
    (" ORCPT=utf-8;a\u2028b", replies.BAD_PARAMETER),
    (" ORCPT=rfc822;" + "x" * 494, replies.BAD_PARAMETER),
    (" SIZE=1", replies.UNKNOWN_PARAMETER),
]


@pytest.mark.parametrize(("text", "sender"), MAIL)
def test_mail(text, sender):
    assert parameters.sender(b"FROM:<a@b>" + text.encode()) == sender


@pytest.mark.parametrize(("text", "reply"), BAD_MAIL)
def test_mail_refused(text, reply):
    assert parameters.sender(b"FROM:<a@b>" + text.encode()) is reply


@pytest.mark.parametrize(("text", "recipient"), RCPT)
def test_rcpt(text, recipient):
    assert parameters.recipient(b"TO:<a@b>" + text.encode(), True) == recipient


@pytest.mark.parametrize(("text", "reply"), BAD_RCPT)
def test_rcpt_refused(text, reply):
    assert parameters.recipient(b"TO:<a@b>" + text.encode(), True) is reply


def test_utf8_in_orcpt_needs_the_extension():
    argument = "TO:<a@b> ORCPT=utf-8;ж@b".encode()
    assert parameters.recipient(argument, False) is replies.NEEDS_SMTPUTF8


def test_broken_utf8_is_no_parameter():
    assert parameters.recipient(b"TO:<a@b> ORCPT=utf-8;\xff", True) is replies.BAD_PARAMETER
