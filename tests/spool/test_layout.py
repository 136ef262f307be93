"""Where a message lies: the same from its number and from its name."""

import pytest

from kmq.model import queue_id
from kmq.spool import layout


@pytest.mark.parametrize("number", [0, 0x69212AD0_0000A1F3, 0x69212AD0_FFFFFFFF, 0xFFFFFFFF_00010000])
@pytest.mark.parametrize("home", ["queue", "poison", "sent/2026-11-22"])
def test_a_name_leads_to_the_files_of_its_number(number: int, home: str) -> None:
    assert layout.stem_of(queue_id.text(number), home) == layout.stem(number, home)


@pytest.mark.parametrize(
    "name", ["", "../../etc/passwd", "69212ad0-0000a1f3\n", "69212AD0-0000A1F3", "69212ad0/0000a1f3"]
)
def test_no_path_is_made_of_foreign_text(name: str) -> None:
    with pytest.raises(ValueError, match="is not a queue ID"):
        layout.stem_of(name)
