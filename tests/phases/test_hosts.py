"""Which host first, and with TLS or without."""

import pytest

from kmq.phases.hosts import CLEAR_AFTER, CLEAR_UNTIL, FAILED_MEMORY, Hosts
from tests.phases.sending import section

A, B, C = ("a", 25), ("b", 25), ("c", 587)


def test_the_order_of_the_configuration_but_what_failed_comes_last() -> None:
    hosts = Hosts(section(A, B, C))
    assert hosts.order(0) == [A, B, C]
    hosts.failed(A, 100, tls=False)
    assert hosts.order(101) == [B, C, A]
    hosts.failed(B, 102, tls=False)
    assert hosts.order(103) == [C, A, B]
    hosts.succeeded(A)
    assert hosts.order(104) == [A, C, B]
    assert hosts.order(102 + FAILED_MEMORY) == [A, B, C]


@pytest.mark.parametrize(("tls", "used"), [("never", False), ("must", True)])
def test_never_and_must_are_meant(tls: str, used: bool) -> None:
    hosts = Hosts(section(A, tls=tls))
    hosts.failed(A, 0, tls=True)
    for now in (0, CLEAR_AFTER, CLEAR_UNTIL - 1, CLEAR_UNTIL):
        assert hosts.tls(A, now) is used


def test_may_speaks_in_clear_only_a_while_after_tls_failed() -> None:
    hosts = Hosts(section(A, B, tls="may"))
    assert hosts.tls(A, 0)
    hosts.failed(A, 0, tls=False)
    assert hosts.tls(A, CLEAR_AFTER), "it was not TLS that failed"
    hosts.failed(A, 1000, tls=True)
    assert hosts.tls(A, 1001), "not at once: a handshake is too easy to break"
    assert hosts.tls(A, 1000 + CLEAR_AFTER - 1)
    hosts.failed(A, 1000 + CLEAR_AFTER - 1, tls=True)
    assert not hosts.tls(A, 1000 + CLEAR_AFTER), "a second failure does not begin the interval anew"
    assert hosts.tls(B, 1000 + CLEAR_AFTER)
    assert hosts.tls(A, 1000 + CLEAR_UNTIL), "and TLS has its chance again"
