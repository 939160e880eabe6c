"""The command line of `mount.csfs`, as mount(8) gives it."""

import pytest

from csfs.cli.mount_helper import Wrong, parse


def test_as_mount_calls_it() -> None:
    found = parse(["/data", "/mnt/cs", "-o", "rw,instance=lab1,state=/srv/s"])
    assert found[:5] == ("/data", "/mnt/cs", "lab1", "/srv/s", ())
    assert not found.fake


def test_what_is_for_fstab_is_passed_over() -> None:
    words = (
        "rw,_netdev,noauto,nofail,user,users,relatime,x-systemd.automount,x-systemd.requires=net.target,"
        "comment=x,defaults,instance=lab1"
    )
    assert parse(["/data", "/mnt/cs", "-sv", "-o", words]).words == ()


def test_what_is_for_csfs_and_the_kernel_is_kept() -> None:
    found = parse(
        ["-n", "/data", "/mnt/cs", "-o", "ro,nosuid,noatime", "-o", "instance=a,takeover=60,strict"]
    )
    assert found.words == ("ro", "nosuid", "noatime", "takeover=60", "strict")
    assert parse(["/data", "/mnt", "-r", "-o", "instance=a"]).words == ("ro",)
    assert parse(["/data", "/mnt", "-o", "ro,rw,instance=a"]).words == ()


def test_fake() -> None:
    assert parse(["/data", "/mnt", "-f", "-o", "instance=a"]).fake


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["/data", "/mnt"], 1, "-o instance=NAME"),
        (["/data", "-o", "instance=a"], 1, "usage"),
        (["/data", "/mnt", "-x", "-o", "instance=a"], 1, "-x is not known"),
        (["/data", "/mnt", "-o"], 1, "wants a value"),
        (["/data", "/mnt", "-o", "remount,ro,instance=a"], 2, "umount it, then mount it anew"),
        (["/data", "/mnt", "-N", "/proc/1/ns/mnt", "-o", "instance=a"], 2, "namespace"),
    ],
)
def test_what_is_wrong_says_what_to_do(arguments: list[str], status: int, said: str) -> None:
    with pytest.raises(Wrong, match=said) as caught:
        parse(arguments)
    assert caught.value.status == status
