"""ORCPT: what a recipient was called in the beginning, through servers with and without SMTPUTF8 (RFC 6533 3)."""

import re

import pytest

from kmq.model import orcpt
from kmq.model.orcpt import Original

#: RFC 6533 3: what a server without SMTPUTF8 may be told.
XTEXT_7BIT = re.compile(
    r"(?:[!-*,-<>-\[\]-~]|\\x\{(?:[01][1-9]|10|20|2B|3D|7F|5C|[89A-F][0-9A-F]|[1-9A-F][0-9A-F]{2}"
    r"|[1-9A-CEF][0-9A-F]{3}|D[0-7][0-9A-F]{2}|[1-9A-F][0-9A-F]{4}|10[0-9A-F]{4})\})+"
)

ADDRESSES = ["пример@b.test", "a+b=c@b.test", r'"ü \\ x"@b.test', "ñ+tag@пример.test", "𝒷@b.test", "\ufffdü\x7f@b"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_comes_back_as_it_was(address: str) -> None:
    made = orcpt.orcpt_of(address)
    assert made.isascii() and " " not in made
    assert orcpt.read(made) == Original("rfc822" if address.isascii() else "utf-8", address)


@pytest.mark.parametrize("address", ADDRESSES)
def test_the_seven_bit_form_is_that_of_the_document(address: str) -> None:
    assert XTEXT_7BIT.fullmatch(orcpt.utf8_xtext(address))


@pytest.mark.parametrize(
    ("given", "seven_bit"),
    [
        ("rfc822;a+2Bb@b.test", "rfc822;a+2Bb@b.test"),
        ("utf-8;\\x{436}@b.test", "utf-8;\\x{436}@b.test"),
        ("utf-8;ж@b.test", "utf-8;\\x{436}@b.test"),
        ("UTF-8;ж\\x{2B}x@b.test", "UTF-8;\\x{436}\\x{2B}x@b.test"),
        ("utf-8;ж+x=y@b.test", "utf-8;\\x{436}\\x{2B}x\\x{3D}y@b.test"),
        ("utf-8;ж\\x{}\\x{D800}@b", "utf-8;\\x{436}\\x{5C}x{}\\x{5C}x{D800}@b"),
    ],
)
def test_what_a_server_without_smtputf8_is_told(given: str, seven_bit: str) -> None:
    assert orcpt.seven_bit(given) == seven_bit
    assert orcpt.read(seven_bit) == orcpt.read(given)


@pytest.mark.parametrize("given", ["", "rfc822", "rfc822;+ZZ", "rfc822;a+", "x-custom;+7é", "utf-8;\\x{110000}"])
def test_what_is_broken_stays_as_it_is(given: str) -> None:
    assert orcpt.read(given).address == given.partition(";")[2]
