"""Temporary files of a daemon that was killed are gone after the next mount; those of others are not."""

import os
import time
from pathlib import Path

from tests.crash.control import Kind
from tests.crash.site import Site, temporary_site
from tests.crash.zygote import Zygote


def test_another_instance_that_is_at_work_is_not_disturbed(zygote: Zygote, place: Path) -> None:
    """It is making its lock in a detached project while the first is killed there, and mounts again."""
    with temporary_site(zygote, place, "one") as one:
        one.small("CS-x")
        one.mount()
        (place / "two").mkdir()
        other = zygote.mount("lab2", one.backing, place / "two", one.state)
        try:
            fd = os.open(place / "two/CS-x/cs.lock", os.O_WRONLY | os.O_CREAT)
            theirs = one.temporaries()
            assert len(theirs) == 1
            # The first has its own there, too, when it ends.
            calls = calls_until(one, Kind.LINK)
            one.control.kill(calls, after=False)
            try:
                (one / "CS-x/cs.lock").touch()
            except OSError:
                pass
            assert len(one.temporaries()) > 1
            one.crash()
            one.mount()
            wait_until_gone(one, theirs)
            os.close(fd)
            assert os.getxattr(place / "two/CS-x", "user.csfs.state") == b"attached"
            assert one.state_of("CS-x") == "foreign"
            assert one.temporaries() == []
        finally:
            other.umount()


def calls_until(site: Site, kind: Kind) -> int:
    """How many calls an attach makes up to its first of a kind, tried in another project."""
    site.small("CS-tried")
    site.control.count()
    (site / "CS-tried/cs.lock").touch()
    return 1 + [call.split()[0] for call in site.control.journal()].index(kind.name)


def wait_until_gone(site: Site, kept: list[Path]) -> None:
    deadline = time.monotonic() + 20
    while site.temporaries() != kept:
        assert time.monotonic() < deadline, site.temporaries()
        time.sleep(0.005)
