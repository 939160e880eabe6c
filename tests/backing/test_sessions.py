"""Sessions and the storage's own name, under `.csfs` at the top of a backing directory."""

import os
import stat
from pathlib import Path

import msgspec
import pytest

from csfs.backing import control, sessions
from csfs.backing.descriptor import Descriptor
from tests.backing.conftest import Hindrance
from tests.domain.test_session import SESSION


def test_what_is_written_is_read(here: Descriptor, place: Path) -> None:
    assert sessions.read(here) == []
    sessions.write(here, SESSION)
    assert sessions.read(here) == [SESSION]
    shorter = msgspec.structs.replace(SESSION, counter=2, host="n")
    sessions.write(here, shorter)
    other = msgspec.structs.replace(SESSION, instance_uuid="a" * 8 + SESSION.instance_uuid[8:])
    sessions.write(here, other)
    assert sorted(sessions.read(here), key=lambda each: each.instance_uuid) == [shorter, other]
    assert sorted(os.listdir(place)) == [".csfs"]


def test_several_users_share_the_directory(here: Descriptor, place: Path) -> None:
    umask = os.umask(0o077)
    try:
        sessions.write(here, SESSION)
    finally:
        os.umask(umask)
    for path in (place / ".csfs", place / ".csfs/sessions"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o1777


def test_what_is_no_session_is_left_out(here: Descriptor, place: Path, hindrance: Hindrance) -> None:
    sessions.write(here, SESSION)
    directory = place / ".csfs/sessions"
    hindrance(directory / (SESSION.instance_uuid.replace("1", "2") + ".json"))
    (directory / "note").write_text("hello")
    (directory / (SESSION.instance_uuid.replace("1", "3") + ".json")).write_bytes(SESSION.encode())
    (directory / (SESSION.instance_uuid.replace("1", "4") + ".json")).write_bytes(b"{")
    assert sessions.read(here) == [SESSION]


def test_nothing_is_written_through_a_symlink(here: Descriptor, place: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (place / ".csfs").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        sessions.write(here, SESSION)
    (place / ".csfs").unlink()
    sessions.write(here, SESSION)
    file = place / ".csfs/sessions" / f"{SESSION.instance_uuid}.json"
    file.unlink()
    file.symlink_to(outside / "file")
    with pytest.raises(OSError, match="symbolic"):
        sessions.write(here, SESSION)
    assert os.listdir(outside) == []


def test_a_storage_gets_its_name_once(here: Descriptor, place: Path) -> None:
    assert control.storage(here) == ""
    name = control.name_storage(here)
    assert len(name) == 36
    assert control.name_storage(here) == control.storage(here) == name
    assert sorted(os.listdir(place / ".csfs")) == ["storage"]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 10, b'{"storage": 1}'])
def test_a_name_that_cannot_be_read_is_none(here: Descriptor, place: Path, content: bytes) -> None:
    (place / ".csfs").mkdir()
    (place / ".csfs/storage").write_bytes(content)
    assert control.storage(here) == control.name_storage(here) == ""
    assert (place / ".csfs/storage").read_bytes() == content
