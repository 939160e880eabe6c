"""Where blocking calls run."""

import threading

import pytest

from csfs.backing.io import in_thread, inline


async def test_in_thread() -> None:
    assert await in_thread(threading.get_ident) != threading.get_ident()


async def test_inline() -> None:
    assert await inline(threading.get_ident) == threading.get_ident()


@pytest.mark.parametrize("run", [in_thread, inline])
async def test_arguments_results_and_errors(run: object) -> None:
    assert await run(divmod, 7, 2) == (3, 1)  # type: ignore[operator]
    with pytest.raises(ZeroDivisionError):
        await run(divmod, 1, 0)  # type: ignore[operator]
