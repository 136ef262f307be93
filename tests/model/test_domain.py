"""Domains: one spelling for each, and nothing that is none."""

import pytest

from kmq.model.domain import canonical


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("example.org", "example.org"),
        ("EXAMPLE.Org", "example.org"),
        ("localhost", "localhost"),
        ("a_b.example.org", "a_b.example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("пример.example", "xn--e1afmkfd.example"),
        (".".join(["a" * 63] * 3 + ["a" * 61]), ".".join(["a" * 63] * 3 + ["a" * 61])),
    ],
)
def test_all_spellings_of_a_domain_are_one(written: str, name: str) -> None:
    assert canonical(written) == name
    assert canonical(name) == name


@pytest.mark.parametrize(
    "written",
    [
        "",
        ".",
        "example.org.",
        "example.org\u3002",
        ".example.org",
        "a..b",
        "a b",
        "a/b",
        "a\u2100b.example",  # maps to a/c
        "a\uff0fb.example",  # maps to /
        "a;b",
        "a\nb",
        "a\0b",
        "[127.0.0.1]",
        "*.example.org",
        "a" * 64,
        ".".join(["a" * 63] * 4),
        "ü" * 60 + ".example",
        "ü" * 100000,
    ],
)
def test_what_is_no_domain_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"domain"):
        canonical(written)
