"""docs/reliability.md names tests that exist, and has a row for every fault of the matrix."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
DOCUMENT = (TESTS.parent / "docs" / "reliability.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+::\w+)`", DOCUMENT)))

#: Of parts that kmq does not have.
ELSEWHERE = {65, 68}


def test_every_fault_has_a_row_with_tests() -> None:
    rows = re.findall(r"^\| (\d+) \| .* \| .* \| (.*) \|$", DOCUMENT, re.M)
    assert [int(number) for number, _ in rows] == [number for number in range(1, 71) if number not in ELSEWHERE]
    assert all("::test_" in shown for _, shown in rows)


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_is_named_is_there(name: str) -> None:
    path, _, function = name.partition("::")
    text = (TESTS / f"{path}.py").read_text()
    assert re.search(rf"^(?:async )?def {function}\(", text, re.M)


def test_no_test_is_named_in_another_way() -> None:
    assert len(NAMED) > 100 and DOCUMENT.count("::") == len(re.findall(r"`[\w/]+::\w+`", DOCUMENT))
