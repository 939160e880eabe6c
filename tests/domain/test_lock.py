"""What a cs.lock says, and that no bytes can make reading it fail."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csfs.domain import lock
from csfs.domain.lock import Lock, Opaque

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
LOCKS = st.builds(
    Lock,
    lock_id=TEXT,
    instance_uuid=TEXT,
    instance_name=TEXT,
    project_uuid=TEXT,
    project_uid=TEXT,
    state=st.sampled_from(["attached", "archived"]),
    epoch=st.integers(0, 2**63),
    inode=st.integers(0, 2**64 - 1),
    path=TEXT,
    host=TEXT,
    since=TEXT,
)
PLAIN = Lock(
    lock_id="8a5c",
    instance_uuid="11f0",
    instance_name="lab1",
    project_uuid="77aa",
    project_uid="P12",
    state="attached",
    epoch=3,
    inode=4711,
    path="group/CS-x",
    host="node1",
    since="2026-01-01T00:00:00.000Z",
)


def changed(**values: Any) -> bytes:
    """The bytes of a lock with other values; None leaves a key out."""
    found = {**json.loads(PLAIN.encode()), **values}
    return json.dumps({key: value for key, value in found.items() if value is not None}).encode()


@given(LOCKS)
def test_round_trip(made: Lock) -> None:
    assert lock.parse(made.encode()) == made


def test_encoded_for_people_too() -> None:
    content = PLAIN.encode()
    assert content.endswith(b"}\n")
    assert b'\n  "project_uid": "P12",\n' in content
    assert len(content) < 4096


@given(st.binary(max_size=300))
def test_no_bytes_make_parse_fail(content: bytes) -> None:
    assert lock.parse(content) == Opaque(content)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_bytes_around_the_key_make_parse_fail(before: bytes, after: bytes) -> None:
    content = before + b'"csfs_lock"' + after
    assert lock.parse(content) == Opaque(content)


@given(LOCKS, st.data())
def test_a_damaged_lock_is_read_or_opaque(made: Lock, data: st.DataObject) -> None:
    content = made.encode()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, len(content)))
    damaged = content[:start] + data.draw(st.binary(max_size=5)) + content[end:]
    found = lock.parse(damaged)
    assert isinstance(found, Lock) or found == Opaque(damaged)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"{}",
        b"null",
        b'"csfs_lock"',
        b'["csfs_lock"]',
        b'{"csfs_lock": 1}',
        PLAIN.encode()[:-3],
        PLAIN.encode() + b"x",
        b"\xef\xbb\xbf" + PLAIN.encode(),
        PLAIN.encode().decode().encode("utf-16"),
        PLAIN.encode().replace(b"node1", b"node\xff"),
        PLAIN.encode().replace(b"node1", b"\\ud800"),
        changed(csfs_lock=2),
        changed(csfs_lock="1"),
        changed(state="detached"),
        changed(epoch="3"),
        changed(epoch=1.5),
        changed(inode=None),
        changed(lock_id=None),
        changed(host=["node1"]),
        PLAIN.encode() + b" " * lock.MAX_BYTES,
        b'{"csfs_lock": 1, "x": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"csfs_lock": 1, "x": ' + b'{"a":' * 12_000,
    ],
    ids=lambda content: content[:20].hex(),
)
def test_what_is_no_lock_of_ours_is_opaque(content: bytes) -> None:
    assert lock.parse(content) == Opaque(content)


def test_a_key_of_a_later_version_is_ignored() -> None:
    assert lock.parse(changed(lease="x")) == PLAIN


def test_a_number_of_600_digits_does_not_matter() -> None:
    found = lock.parse(changed(epoch=int("9" * 600)))
    assert isinstance(found, Opaque) or found.epoch == int("9" * 600)


def test_owners_are_told_in_words() -> None:
    assert PLAIN.owner == "lab1 (P12) on node1 since 2026-01-01T00:00:00.000Z"
    assert "not written by csfs" in Opaque(b"x").owner


def test_a_lock_cannot_be_changed_in_place() -> None:
    with pytest.raises(AttributeError):
        PLAIN.epoch = 4  # type: ignore[misc]
    assert msgspec.structs.replace(PLAIN, epoch=4).epoch == 4
