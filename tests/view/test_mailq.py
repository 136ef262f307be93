"""The mail queue on terminals wide and narrow."""

from kmq.admin.listing import Listed, Share, Status
from kmq.model.hop import UNREACHABLE, DeliveryType, NextHop
from kmq.view.mailq import Tally, advice, mailq
from kmq.view.table import Page
from kmq.view.words import local_time, offset, short_time, width

ISP = NextHop(DeliveryType.SMART_HOST, "smtp.isp.example:587", "isp")
AT = 1795326611.0


def entry(status: Status = Status.RETRY, next_try: float | None = AT + 300, trouble: str = "451 not now") -> Listed:
    share = Share(ISP, ["bob@example.net"], status, next_try, trouble=trouble)
    return Listed("69212ad0-0000a1f3", AT, 4301, "alice.liddell@wonderland.example.org", [share])


def test_a_wide_page_has_one_line_per_message() -> None:
    _, line = mailq([entry()], Page(columns=200))
    assert line.split("  ") == [
        "69212ad0-0000a1f3",
        local_time(AT),
        local_time(AT + 300),
        "4.2 K",
        "alice.liddell@wonderland.example.org",
        "bob@example.net",
        "Retry: 451 not now",
    ]


def test_a_narrow_terminal_keeps_the_reason_on_a_line_of_its_own() -> None:
    long = "451 4.4.1 " + "the server at the other end does not answer " * 4
    titles, line, reason = mailq([entry(trouble=long)], Page(columns=80))
    assert titles.split() == ["ID", "Created", offset(), "Next", "Try", "Size", "From", "To"]
    assert line.startswith(f"69212ad0-0000a1f3  {short_time(AT)}  {short_time(AT + 300)}  4.2 K  alice")
    assert reason.startswith("    Retry: 451 4.4.1 the server at the other end")
    assert all(width(one) <= 80 for one in (titles, line, reason))


def test_what_waits_for_somebody_stands_out_where_colours_are_welcome() -> None:
    suspended = entry(Status.SUSPENDED, None, "by root")
    assert list(mailq([suspended], Page(80, 24, colours=True)))[-1] == "    \x1b[31mSuspended: by root\x1b[0m"
    assert list(mailq([entry()], Page(200, 24, colours=True)))[-1].endswith("\x1b[33mRetry: 451 not now\x1b[0m")
    ready = entry(Status.READY, 0.0, "")
    assert "\x1b" not in list(mailq([ready], Page(200, 24, colours=True)))[-1]


def test_the_tally_counts_what_goes_by() -> None:
    nowhere = Share(UNREACHABLE, ["x@a.example", "y@b.example", "z@A.example"], Status.READY, None)
    tally = Tally()
    entries = [entry(), Listed("69212ad0-0000a1f4", AT, 700, "", [nowhere])]
    assert list(tally.of(entries)) == entries
    assert tally.line == "2 messages, 4.9 K"
    assert (tally.unserved_messages, tally.unserved) == (1, ["a.example", "b.example"])


def test_the_tally_names_no_more_domains_than_a_person_reads() -> None:
    tally = Tally()
    shares = ([Share(UNREACHABLE, [f"x@{n}.example"], Status.READY, None)] for n in range(100))
    for _ in tally.of(Listed("69212ad0-0000a1f4", AT, 1, "", share) for share in shares):
        pass
    assert (tally.unserved_messages, len(tally.unserved)) == (100, 20)


def test_advice_is_given_only_where_it_helps() -> None:
    assert list(advice(Tally(), "kmq.conf", "")) == []
    tally = Tally(unserved=["a.example"], unserved_messages=1)
    assert "    address_spaces = *" in list(advice(tally, "kmq.conf", ""))
    assert any("[isp : connector] would" in line for line in advice(tally, "kmq.conf", "isp : connector"))
    disabled = list(advice(tally, "kmq.conf", "isp : connector", "enabled = yes"))
    assert disabled[1:] == [
        "The connector [isp : connector] would, but is disabled. Write into its section of kmq.conf:",
        "    enabled = yes",
        "Then: kmq reload",
    ]
    built_in = list(advice(tally, "", "smarthost : connector"))
    assert any("Copy etc/kmq.conf" in line for line in built_in)
    assert not any("<" in line for line in built_in)
