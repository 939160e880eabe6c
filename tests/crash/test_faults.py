"""Calls of the daemon fail: each action, at its calls, on the backing directory and in the store."""

import contextlib
import errno
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.actions import ACTIONS, Action
from tests.crash.conftest import EVERY_CALL
from tests.crash.control import CHANGES, READS, Kind
from tests.crash.site import Site, temporary_site
from tests.crash.test_kill import check_outcome
from tests.crash.zygote import Zygote
from tests.mount.lab import wait_for

CODES = (errno.EIO, errno.ESTALE, errno.EDQUOT, errno.ENOSPC)
STRIDE = 1 if EVERY_CALL else 29
"""Of so many calls one is failed."""


@pytest.mark.parametrize("always", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("where", ["backing", "state/lab1/store"])
@pytest.mark.parametrize("action", ACTIONS, ids=str)
def test_failing_changes(zygote: Zygote, place: Path, action: Action, where: str, always: bool) -> None:
    """The caller is told, unless it was finished all the same; nothing is lost, and it can be repeated."""
    failed = 0
    for turn, number in enumerate(itertools.count(1 + always, STRIDE)):
        with temporary_site(zygote, place, str(number)) as site:
            if not fault(site, action, number, CODES[turn % 4], CHANGES, where=where, always=always):
                break
        failed += 1
    assert failed or action.name == "copy of a lock" or where != "backing" or action.name == "forget"


@pytest.mark.parametrize("always", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("action", ACTIONS, ids=str)
def test_failing_reads(zygote: Zygote, place: Path, action: Action, always: bool) -> None:
    """What cannot be read is taken neither for missing nor for another's."""
    for turn, number in enumerate(itertools.count(1 + 3 * always, 3 * STRIDE)):
        with temporary_site(zygote, place, str(number)) as site:
            code = CODES[turn % 2]
            if not fault(site, action, number, code, READS, where="backing", always=always):
                break


def fault(
    site: Site,
    action: Action,
    number: int,
    code: int,
    kinds: frozenset[Kind],
    *,
    where: str,
    always: bool,
) -> bool:
    """Fails one call of an action, or all from there on; whether there was a call of this number."""
    site.mount()
    action.prepare(site)
    assert site.settle()
    site.remember(data=not action.removes_data)
    site.left_overs_stay = True
    control = site.control
    control.fail(code, kinds, within=site.place / where, at=number, always=always)
    failure = None
    try:
        action.act(site)
    except OSError as error:
        failure = error
    hit = control.failable >= number
    if not always:
        made_up_for(site)
    control.disarm()
    with told(f"{errno.errorcode[code]} at call {number} in {where}: the action had {failure!r}"):
        if failure is not None:
            # Of a command only its words are known. It is EIO while the store cannot be opened anew, and for
            # what the kernel would repeat after ESTALE although it is done in part.
            expected = {code, None} | ({errno.EIO} if code == errno.ESTALE or where != "backing" else set())
            assert failure.errno in expected
        made_up_for(site)
        check_outcome(site, action, acknowledged=failure is None)
        action.act(site)
        check_outcome(site, action, acknowledged=True)
        site.umount()
        site.left_overs_stay = False
        site.mount()
        check_outcome(site, action, acknowledged=True)
    return hit


def made_up_for(site: Site) -> None:
    """Waits until what failed in the background, or half way, has been done or taken back."""

    def is_done() -> bool:
        assert site.daemon is not None
        assert not site.daemon.ended, site.daemon.log
        try:
            shown = json.loads((site / ".csfs/status.json").read_text())
        except OSError:
            return False  # the call that fails may be one of this request
        left = shown["transitions"], shown["exports_failing"], shown["store_problem"]
        return not any(left) and not site.unsettled()

    wait_for(is_done, "what failed is made up for")
    assert site.settle()


@contextlib.contextmanager
def told(what: str) -> Iterator[None]:
    """Names the fault in what fails."""
    try:
        yield
    except BaseException as error:
        error.add_note(what)
        raise
