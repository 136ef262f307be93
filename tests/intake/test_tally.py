"""Sessions are counted over all receiver processes, in memory that they share."""

import mmap
import os

import pytest

from kmq.intake.tally import Tally, shared


def test_in_all_and_per_client():
    tally = Tally(total=3, per_client=2)
    assert [tally.enter("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert [tally.enter("192.0.2.2"), tally.enter("192.0.2.3")] == [True, False]
    assert tally.sessions == 3
    tally.leave("192.0.2.1")
    assert tally.enter("192.0.2.3")
    assert not tally.enter("192.0.2.1")


def test_a_network_of_ipv6_is_one_client():
    tally = Tally(10, 1)
    assert tally.enter("2001:db8:0:1::1")
    assert not tally.enter("2001:db8:0:1:ffff::2")
    assert tally.enter("2001:db8:0:2::1")


def test_who_has_no_address_is_counted_too():
    tally = Tally(10, 1)
    assert tally.enter("")
    assert not tally.enter("")
    tally.leave("")
    assert tally.sessions == 0


@pytest.fixture
def memory() -> tuple[mmap.mmap, mmap.mmap]:
    """The same memory, as two processes see it."""
    fd = os.memfd_create("sessions")
    found = shared(fd, 2), shared(fd, 2)
    os.close(fd)
    return found


def test_limits_hold_over_processes(memory):
    one, two = Tally(4, 2, memory[0], 0, 2), Tally(4, 2, memory[1], 1, 2)
    assert one.enter("192.0.2.1")
    assert two.enter("192.0.2.1")
    assert not one.enter("192.0.2.1")
    assert not two.enter("192.0.2.1")
    assert one.enter("192.0.2.2")
    assert two.enter("192.0.2.3")
    assert not one.enter("192.0.2.4")
    assert one.sessions == two.sessions == 4
    two.leave("192.0.2.1")
    assert one.enter("192.0.2.1")


def test_what_a_dead_process_counted_its_successor_forgets(memory):
    one, two = Tally(4, 4, memory[0], 0, 2), Tally(4, 4, memory[1], 1, 2)
    for _ in range(2):
        assert one.enter("192.0.2.1")
        assert two.enter("192.0.2.1")
    assert not two.enter("192.0.2.1")
    Tally(4, 4, memory[0], 0, 2)
    assert two.sessions == 2
    assert two.enter("192.0.2.1")
