"""The daemon is killed, and at once the power of the store's or the backing directory's disk is cut.

Nothing may depend on a rename or a link, or anything else, being durable before it was synced: not what
was acknowledged, and not what the next mount makes of what was not.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Points
from tests.crash.actions import BY_NAME, Action
from tests.crash.conftest import EVERY_CALL
from tests.crash.disk import Disk
from tests.crash.site import Site, temporary_site
from tests.crash.test_kill import begin, check_outcome, did, repeat
from tests.crash.zygote import Zygote

STRIDE = 1 if EVERY_CALL else 18
"""Of how many calls one is the last."""
CUTS = ("backing", "store", "both")
PAIRS = ("xfs-ext4", "ext4-xfs")

ACTIONS = (
    "create",
    "attach",
    "detach",
    "archive",
    "unarchive in place",
    "move",
    "move an archived project",
    "move a container",
    "make a job",
    "delete a job",
    "complete a job",
    "edit in place",
    "edit by rename",
)

Disks = tuple[Disk, Disk]
"""That of the backing directory, that of the store."""


@pytest.fixture(scope="module", params=PAIRS)
def disks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disks]:
    place = tmp_path_factory.mktemp("disks")
    made: dict[str, Disk] = {}
    try:
        for kind in ("ext4", "xfs"):
            made[kind] = Disk(kind, place)
        backing, store = request.param.split("-")
        yield made[backing], made[store]
    finally:
        for disk in made.values():
            disk.close()


@pytest.fixture(autouse=True)
def cleared(disks: Disks) -> Iterator[None]:
    yield
    for disk in disks:
        disk.clear()


@pytest.mark.parametrize("name", ACTIONS)
@pytest.mark.parametrize("cut", CUTS)
def test_power_is_cut(zygote: Zygote, place: Path, points: Points, disks: Disks, cut: str, name: str) -> None:
    action = BY_NAME[name]
    # Each cut of each pair of disks begins with another call.
    offset = CUTS.index(cut) * len(PAIRS) + PAIRS.index(f"{disks[0].kind}-{disks[1].kind}")
    number, killed = 1 + offset * STRIDE // (len(CUTS) * len(PAIRS)) - STRIDE, True
    while killed:
        number += STRIDE
        name_of_site = f"{cut}{number}"
        backing, state = (disk.mountpoint / name_of_site for disk in disks)
        with temporary_site(zygote, place, name_of_site, backing=backing, state=state) as site:
            killed = cut_power(site, action, disks, cut, number)
        points.add(f"power loss, {name}", 1)


def cut_power(site: Site, action: Action, disks: Disks, cut: str, number: int) -> bool:
    """Whether the daemon was killed at that call: otherwise the power went after the last of the action."""
    begin(site, action)
    for disk in disks:
        disk.sync()
    control = site.control
    control.kill(number, after=False)
    acknowledged = did(site, action)
    killed = site.daemon is not None and control.calls >= number
    site.crash()
    for disk, name in zip(disks, ("backing", "store"), strict=True):
        if cut in (name, "both"):
            disk.cut_power()
    for disk, name in zip(disks, ("backing", "store"), strict=True):
        if cut in (name, "both"):
            disk.restart()
    try:
        assert acknowledged or killed, "the action failed"
        site.mount()
        check_outcome(site, action, acknowledged=acknowledged)
        repeat(site, action)
    except BaseException as error:
        at = f"before call {number}: {control.call(number)}" if killed else "when it was acknowledged"
        error.add_note(f"{action}, power of {cut} cut {at}")
        raise
    return killed
