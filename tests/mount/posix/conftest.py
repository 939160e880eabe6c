"""The mounts are shared by all cases: each works in a directory of its own."""

from collections.abc import Iterator

import pytest

from tests.mount.posix.site import Site


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.take_down()
