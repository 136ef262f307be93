"""What all sections of options have in common."""

import dataclasses

import pytest

from kmq.config.sections import BackPressureSection, QueueSection


def test_sections_are_equal_when_all_their_options_are() -> None:
    assert QueueSection() == QueueSection()
    assert hash(QueueSection()) == hash(QueueSection())
    assert QueueSection(per_hop=7) != QueueSection()
    assert len({QueueSection(), QueueSection(), QueueSection(per_hop=7)}) == 2
    assert QueueSection() != BackPressureSection()


def test_a_section_tells_its_options_and_keeps_them() -> None:
    section = QueueSection(per_hop=7)
    assert repr(section).startswith("QueueSection(") and "per_hop=7" in repr(section)
    with pytest.raises(dataclasses.FrozenInstanceError):
        section.per_hop = 8  # type: ignore[misc]
    assert dataclasses.replace(section, per_hop=9).per_hop == 9
