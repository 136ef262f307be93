"""One kmqd for the tests of a file."""

from collections.abc import Iterator

import pytest

from tests.faults.world import World, world


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world") / "k") as one:
        yield one


@pytest.fixture
def here(whole: World) -> World:
    """One kmqd for all whose test it survives."""
    whole.forget()
    return whole
