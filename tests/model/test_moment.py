"""Times on disk: to the millisecond, there and back, and nothing else is taken for a time."""

import pytest

from kmq.model.moment import as_text, from_text


def test_text_to_time_to_text_is_the_same_text() -> None:
    for thousandth in range(1000):
        text = f"2026-11-22T05:50:11.{thousandth:03d}Z"
        assert as_text(from_text(text)) == text


def test_the_last_moment_of_a_second_is_rounded_into_the_next() -> None:
    assert as_text(1795326610.9999) == "2026-11-22T05:50:11.000Z"
    assert as_text(1795326611.0001) == "2026-11-22T05:50:11.000Z"
    assert as_text(0.0) == "1970-01-01T00:00:00.000Z"


def test_what_was_asked_before_does_not_matter() -> None:
    texts = ["2026-11-22T05:50:11.999Z", "2026-11-22T05:50:11.001Z", "1969-12-31T23:59:59.500Z"]
    assert [from_text(text) for text in [*texts, *texts]] == [1795326611.999, 1795326611.001, -0.5] * 2
    with pytest.raises(ValueError, match="not a time"):
        from_text("2026-11-22T05:50:11,001Z")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-22T05:50:11Z",
        "2026-11-22T05:50:11.123+",
        "2026-11-22 05:50:11.123Z",
        "2026-13-22T05:50:11.123Z",
        "2026-11-22T25:50:11.123Z",
        "2026-11-22T05:50:11.1x3Z",
        "2026-11-22T05:50.11.123Z",
        "2026-11-22T05:50:11.12٣Z",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_text(text)
