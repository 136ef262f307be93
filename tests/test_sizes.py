"""Modules, functions and signatures stay small enough to be read at once, and say what they are."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[1]

MODULE_LINES = 500
FUNCTION_LINES = 60
PARAMETERS = 6

#: Words that say that an idea is not finished.
EMPTY_WORDS = {"manager", "helper", "helpers", "util", "utils", "utility", "misc", "common", "payload", "info"}

MODULES = sorted(path for folder in ("kmq", "bench") for path in (TREE / folder).rglob("*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def named(path: Path) -> str:
    return str(path.relative_to(TREE))


def empty_words(name: str) -> set[str]:
    """The words of a name (`QueueManager`, `queue_manager`) that say nothing."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)} & EMPTY_WORDS


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def parameters(function: Function) -> int:
    """How many a caller has to know: self and cls are none, *args is one."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return sum(name not in ("self", "cls") for name in names) + bool(given.vararg) + bool(given.kwarg)


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_module_is_short_and_says_what_it_is(path):
    lines = path.read_text().count("\n")
    assert lines <= MODULE_LINES, f"{named(path)} has {lines} lines: which two things is it?"
    assert ast.get_docstring(parsed(path)), f"{named(path)} does not say what it does and promises"
    assert not empty_words(path.stem), f"{named(path)}: name it by what it does for mail"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_function_tells_one_step(path):
    for function in functions(parsed(path)):
        where = f"{named(path)}:{function.lineno} {function.name}"
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= FUNCTION_LINES, f"{where} has {lines} lines"
        assert parameters(function) <= PARAMETERS, f"{where} has {parameters(function)} parameters: make them a value"
        assert not empty_words(function.name), f"{where}: name it by what it does for mail"


@pytest.mark.parametrize("path", MODULES, ids=named)
def test_a_class_is_named_by_what_it_is(path):
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.ClassDef):
            assert not empty_words(node.name), f"{named(path)}:{node.lineno} {node.name}"


@pytest.mark.parametrize("name", ["QueueManager", "file_utils", "helper", "MiscState", "common", "parse_payload"])
def test_an_empty_word_is_found(name):
    assert empty_words(name)


@pytest.mark.parametrize("name", ["Mailbox", "command", "uncommonly", "Submission", "futile"])
def test_a_mail_word_is_none(name):
    assert not empty_words(name)
