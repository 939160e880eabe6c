"""Each case gives on the mount what it gives in a plain directory of the backing filesystem."""

import pytest

from tests.mount.posix import (  # noqa: F401  (they register their cases)
    attributes,
    data,
    listing,
    locking,
    names,
    opening,
    permissions,
    renaming,
    times,
    unlinked,
)
from tests.mount.posix.cases import CASES
from tests.mount.posix.differences import expected
from tests.mount.posix.observation import differing
from tests.mount.posix.site import IS_ROOT, MODES, STATES, Mode, Site


def _runs() -> list[object]:
    modes = [mode for mode in MODES if IS_ROOT or mode.users_mount]
    one = (modes[0], STATES[-1])
    return [
        pytest.param(name, mode, state, id=f"{name}-{mode.name}-{state}")
        for mode in modes
        for state in mode.states
        for name, case in CASES.items()
        if not case.root or (IS_ROOT and not mode.users_caller)
        if not case.large or (mode, state) == one
    ]


@pytest.mark.parametrize(("name", "mode", "state"), _runs())
def test_as_on_the_backing_filesystem(site: Site, name: str, mode: Mode, state: str) -> None:
    case = CASES[name]
    reference = site.reference(case, mode)
    assert reference, "a case that sees nothing"
    found, above, below = site.observe(case, mode, state)
    differ = differing(found, expected(name, mode, state, reference))
    assert not differ, f"step: what it gives, what was expected: {differ}"
    differ = differing(above, below)
    assert not differ, f"file: what lies on the mount, what in the backing directory: {differ}"
