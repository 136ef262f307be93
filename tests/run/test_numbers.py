"""The numbers of events: whatever comes and goes, the next one is one above the last."""

from random import Random

import pytest

from kmq.run.numbers import Numbers


@pytest.mark.parametrize("seed", range(20))
def test_numbers_are_those_of_a_plain_table(seed: int) -> None:
    random, numbers, plain = Random(seed), Numbers(), dict[int, int]()
    for number in sorted(random.sample(range(1 << 40, (1 << 40) + 400), 200)):  # a queue is read, oldest first
        seq = random.choice((1, 2, 3, 250, 254, 255, 256, 1000))
        numbers.begin(number, seq)
        plain[number] = seq
    for _ in range(3000):
        number = (1 << 40) + random.randrange(500)
        match random.randrange(10):
            case 0:
                numbers.forget(number)
                plain.pop(number, None)
            case 1:
                seq = random.randrange(1, 300)
                numbers.begin(number, seq)
                plain[number] = seq
            case _:
                expected = plain.get(number, 1)
                plain[number] = expected + 1
                assert numbers.next(number) == expected


def test_what_was_read_from_the_disk_costs_little() -> None:
    numbers = Numbers()
    for number in range(1000, 101_000):
        numbers.begin(number, 3)
    assert len(numbers._next) == 0
    assert len(numbers._ids) * numbers._ids.itemsize + len(numbers._seqs) == 900_000
