"""What is pasted stands for the path that was meant, whatever that is called."""

import os
import subprocess

import pytest

from csfs.cli.advice import next_step
from csfs.cli.mounts import Container, Mounted
from csfs.domain import refusals
from csfs.domain.printable import shown
from csfs.domain.refusal_entry import RefusalEntry

MOUNT = Mounted(
    mountpoint="/mnt/c s",
    backing="/data",
    state_directory="/var/lib/csfs/lab1/store",
    containers=[Container(name="ssd", backing="/fast"), Container(name="hdd", backing="/bulk")],
)


def entry(advice: str, path: str, *, target: str = "", directory: str = "") -> RefusalEntry:
    return RefusalEntry(
        at="",
        errno="EBUSY",
        path=path,
        target=target,
        directory=directory,
        operation="rename",
        pid=1,
        command="mv",
        uid=0,
        rule="",
        reason="",
        advice=advice,
    )


@pytest.mark.parametrize(
    "name",
    [
        b"plain",
        b"it's",
        b'"quoted" $HOME `id`;x',
        b"new\nline",
        b"escape\x1b[31m and 'quotes'",
        b"back\\slash\nand\\",
        b"\xff\xfe not UTF-8",
        "\u2028 separates lines".encode(),
        b"PATH TARGET",
    ],
)
def test_a_path_is_one_word_of_the_shell(name: bytes) -> None:
    command = next_step(entry("printf %s PATH", "ssd/" + shown(name)), MOUNT)
    told = subprocess.run(
        ["bash", "-c", command], capture_output=True, check=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    assert told.stdout == b"/mnt/c s/ssd/" + name


def test_each_word_stands_for_its_path() -> None:
    words = "PATH; TARGET; DIRECTORY/cs.lock; MOUNTPOINT; BACKING; BACKING_PATH; STATE; FILE; DIRECTORY.aside"
    told = next_step(entry(words, "hdd/CS-a/f", target="hdd/b", directory="hdd/CS-a"), MOUNT)
    assert told.split("; ") == [
        "'/mnt/c s/hdd/CS-a/f'",
        "'/mnt/c s/hdd/b'",
        "'/mnt/c s/hdd/CS-a'/cs.lock",
        "'/mnt/c s'",
        "/bulk",
        "/bulk/CS-a/f",
        "/var/lib/csfs/lab1/store",
        "FILE",
        "'/mnt/c s/hdd/CS-a'.aside",
    ]


def test_the_top_of_the_mount() -> None:
    assert next_step(entry("DIRECTORY BACKING", ""), MOUNT) == "'/mnt/c s' /data"


@pytest.mark.parametrize("lock_id", ["x; rm -rf /", "PATH", "`id`", "a\nb", "$(id)", ""])
def test_a_lock_puts_nothing_into_a_command(lock_id: str) -> None:
    """Anybody who may write to the storage may write a lock."""
    for refusal in (refusals.not_dead("owner", "", lock_id), refusals.wrong_lock_id(lock_id)):
        assert "`csfs rescue --lock-id ID DIRECTORY`" in refusal.advice
