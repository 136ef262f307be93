"""Regular expressions in linear time say what Python's do, and no text keeps them busy."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmq.model.linear import SIGNS, STATES, Search

ATOMS = st.sampled_from(["a", "b", "A", ".", "[ab]", "[^a]", "[a-b]", "^", "$", r"\.", r"\w", r"\W", r"\d", "(?:b|)"])
REPEATS = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{1,}", "{0}", "*?", "+?"])


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
        st.tuples(inner, REPEATS).map(lambda pair: f"({pair[0]}){pair[1]}"),
    )


@settings(max_examples=400)
@given(pattern=st.recursive(ATOMS, larger, max_leaves=8), text=st.text("ab.A1", max_size=8))
def test_it_says_what_python_says(pattern: str, text: str) -> None:
    try:
        search = Search(pattern)
    except ValueError as wrong:
        assert "too large" in str(wrong)
        return
    folded = text.casefold()
    assert search(folded) is (re.search(pattern, folded, re.IGNORECASE) is not None), (pattern, text)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("INVOICE [0-9]{2,}", "your invoice 42", True),
        ("Straße", "in der strasse 5", True),
        (r"\D\S", "1", False),
        (r"[\d-]", "-", True),
        ("[]a]", "]", True),
        ("a{", "a{", True),
        ("^$", "", True),
        ("^$", "a", False),
        ("", "anything", True),
    ],
)
def test_by_hand(pattern: str, text: str, found: bool) -> None:
    assert Search(pattern)(text.casefold()) is found


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a", r"a \( has no \)"),
        ("a)", r"a \) has no \("),
        ("[a", r"a \[ has no \]"),
        ("*a", r"nothing stands ahead of the \*"),
        ("a**", "one repetition stands behind another"),
        ("a{x}", "begins a repetition as"),
        ("a{3,2}", "less than the first"),
        ("a\\", "behind the last backslash"),
        (r"(a)\1", r"\\1 is not known"),
        (r"\bword", r"\\b is not known"),
        ("(?=a)", r"\(\? is not known"),
        ("[z-a]", "no range"),
        ("((((a{10}){10}){10}){10})", f"{STATES} signs at most"),
        ("(" * 30 + ")" * 30, "deep"),
        ("((((){200}){200}){200}){200}", "too large"),
    ],
)
def test_what_is_wrong_is_said(pattern: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Search(pattern)


@given(st.text("()[]{}*+?|^$\\-,ab12", max_size=12))
def test_whatever_is_written_is_a_pattern_or_a_mistake(pattern: str) -> None:
    try:
        Search(pattern)("ab(1)")
    except ValueError as wrong:
        assert str(wrong)


@pytest.mark.parametrize("pattern", ["(a|aa)+$", "(.*a){20}b", "(a*)*b", "(a|b|ab)*c", "(.?){60}x"])
def test_no_text_keeps_it_busy(pattern: str) -> None:
    """Python's needs years for some of these. The limit is for a machine under load, not a measurement."""
    search, begun = Search(pattern), time.process_time()
    assert search("a" * SIGNS + "!") is False
    assert time.process_time() - begun < 20


def test_the_end_of_what_is_looked_at_is_not_the_end_of_the_text() -> None:
    assert Search("a$")("a" * SIGNS)
    assert not Search("a$")("a" * (SIGNS + 1))
    assert not Search("b")("a" * SIGNS + "b")
