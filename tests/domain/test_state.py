"""The table of states: what each combination of lock, document and claim makes of a directory."""

import errno
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import pytest

from csfs.domain import state
from csfs.domain.lock import Lock, Opaque
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule
from csfs.domain.state import State, Verdict

US, THEM = "uuid-us", "uuid-them"
HERE, ELSEWHERE = 100, 200
PATH, OTHER_PATH = b"group/CS-x", b"group/CS-y"

LOCK = Lock(
    lock_id="lock-1",
    instance_uuid=US,
    instance_name="lab1",
    project_uuid="project-1",
    project_uid="P1",
    state="attached",
    epoch=1,
    inode=HERE,
    path="group/CS-x",
    host="node1",
    since="2026-01-01T00:00:00.000Z",
)
THEIRS = msgspec.structs.replace(LOCK, lock_id="lock-9", instance_uuid=THEM, instance_name="lab2")
OPAQUE = Opaque(b"3f1c, by somebody\n")


@dataclass(frozen=True)
class Claim:
    """What the store knows."""

    lock_id: str = "lock-1"
    state: Literal["attached", "archived", "detached"] = "attached"
    inode: int = HERE
    path: bytes = PATH
    lock_content: bytes = b"whatever"
    born: int = 0


CLAIM = Claim()
ARCHIVED = replace(CLAIM, state="archived")
DETACHED = replace(CLAIM, state="detached")


def elsewhere(lock: Lock) -> Lock:
    """The same lock, bound to another directory."""
    return msgspec.structs.replace(lock, inode=ELSEWHERE)


def of(lock: Lock, **changes: Any) -> Lock:
    return msgspec.structs.replace(lock, **changes)


def judge(lock: Lock | Opaque | None, claim: Claim | None, *, document: bool = True) -> Verdict:
    return state.judge(
        lock=lock,
        has_project_document=document,
        inode=HERE,
        path=PATH,
        instance_uuid=US,
        claim=claim,
    )


Case = tuple[str, Lock | Opaque | None, Claim | None, State, dict[str, Any]]
CASES: list[Case] = [
    # No lock.
    ("no lock, no claim", None, None, State.DETACHED, {}),
    ("detached by us", None, DETACHED, State.DETACHED, {}),
    ("archived by us, the lock left with it", None, ARCHIVED, State.DETACHED, {}),
    ("attached, the lock was removed", None, CLAIM, State.LOST, {"reason": "was removed"}),
    ("moved, and its lock removed", None, replace(CLAIM, path=OTHER_PATH), State.DETACHED, {}),
    ("a new directory at the path of a lost one", None, replace(CLAIM, inode=ELSEWHERE), State.DETACHED, {}),
    # Our lock, bound to this directory.
    ("attached", LOCK, CLAIM, State.ATTACHED, {}),
    ("attached and moved behind our back", LOCK, replace(CLAIM, path=OTHER_PATH), State.ATTACHED,
     {"rebind": True, "reason": "was moved"}),
    ("archived", of(LOCK, state="archived"), ARCHIVED, State.ARCHIVED, {}),
    ("the record rules, not the word in the lock", LOCK, ARCHIVED, State.ARCHIVED, {}),
    ("ours, but the store does not know it", LOCK, None, State.FOREIGN,
     {"reason": "does not know", "owner": "lab1"}),
    ("ours, detached long ago", LOCK, DETACHED, State.FOREIGN, {"reason": "does not know"}),
    ("another lock of ours, the claim is elsewhere", LOCK, replace(CLAIM, lock_id="lock-2", inode=ELSEWHERE),
     State.FOREIGN, {"reason": "does not know"}),
    ("another lock of ours where a claim is attached", LOCK, replace(CLAIM, lock_id="lock-2"), State.LOST,
     {"reason": "another claim"}),
    ("the project was bound anew elsewhere", LOCK, replace(CLAIM, inode=ELSEWHERE, path=OTHER_PATH),
     State.DETACHED, {"inert": True, "reason": "another directory"}),
    ("the same, archived there", LOCK, replace(ARCHIVED, inode=ELSEWHERE, path=OTHER_PATH), State.DETACHED,
     {"inert": True, "reason": "another directory"}),
    ("bound anew, but the store was not told", LOCK, replace(CLAIM, inode=ELSEWHERE), State.ATTACHED,
     {"rebind": True}),
    # Our lock, bound to another directory.
    ("restored in place", elsewhere(LOCK), replace(CLAIM, inode=ELSEWHERE), State.ATTACHED,
     {"rebind": True, "reason": "restored in place"}),
    ("a copy next to its original", elsewhere(LOCK), replace(CLAIM, inode=ELSEWHERE, path=OTHER_PATH),
     State.DETACHED, {"inert": True, "reason": "came with a copy"}),
    ("a copy of an archived project", elsewhere(LOCK), replace(ARCHIVED, inode=ELSEWHERE, path=OTHER_PATH),
     State.DETACHED, {"inert": True}),
    ("an archived project restored in place", elsewhere(LOCK), replace(ARCHIVED, inode=ELSEWHERE),
     State.DETACHED, {"inert": True}),
    ("a copy of a detached project", elsewhere(LOCK), replace(DETACHED, inode=ELSEWHERE), State.DETACHED,
     {"inert": True}),
    ("a copy that the store does not know", elsewhere(LOCK), None, State.DETACHED, {"inert": True}),
    ("the lock of a copy over that of a claim", elsewhere(of(LOCK, lock_id="lock-2")), CLAIM, State.LOST,
     {"reason": "that of a copy"}),
    # The lock of another instance.
    ("foreign", THEIRS, None, State.FOREIGN, {"owner": "lab2 (P1) on node1"}),
    ("foreign, detached by us before", THEIRS, DETACHED, State.FOREIGN, {"owner": "lab2"}),
    ("foreign, archived by us", THEIRS, ARCHIVED, State.FOREIGN, {"owner": "lab2"}),
    ("taken from us", THEIRS, CLAIM, State.LOST, {"reason": "has taken it", "owner": "lab2"}),
    ("foreign, our claim on the inode is for another path", THEIRS, replace(CLAIM, path=OTHER_PATH),
     State.FOREIGN, {}),
    ("a copy of another's", elsewhere(THEIRS), None, State.DETACHED, {"inert": True, "reason": "lab2"}),
    ("a copy of another's over our lock", elsewhere(THEIRS), CLAIM, State.LOST, {"reason": "that of a copy"}),
    ("our lock id in the hands of another", of(THEIRS, lock_id="lock-1"), replace(CLAIM, path=OTHER_PATH),
     State.FOREIGN, {}),
    ("the same, in a copy", elsewhere(of(THEIRS, lock_id="lock-1")), replace(CLAIM, inode=ELSEWHERE),
     State.DETACHED, {"inert": True}),
    # Bytes that csfs did not write.
    ("opaque", OPAQUE, None, State.FOREIGN, {"owner": "unknown"}),
    ("opaque, and ours", OPAQUE, replace(CLAIM, lock_content=OPAQUE.content), State.ATTACHED, {}),
    ("opaque, ours, moved", OPAQUE, replace(CLAIM, lock_content=OPAQUE.content, path=OTHER_PATH),
     State.ATTACHED, {}),
    ("opaque, ours, archived", OPAQUE, replace(ARCHIVED, lock_content=OPAQUE.content), State.ARCHIVED, {}),
    ("opaque, the same bytes in another directory", OPAQUE,
     replace(CLAIM, lock_content=OPAQUE.content, inode=ELSEWHERE), State.FOREIGN, {}),
    ("opaque, the same bytes as once", OPAQUE, replace(DETACHED, lock_content=OPAQUE.content),
     State.FOREIGN, {}),
    ("opaque over our lock", OPAQUE, CLAIM, State.LOST, {"reason": "csfs did not write", "owner": "unknown"}),
    ("opaque over that of an archived project", OPAQUE, ARCHIVED, State.FOREIGN, {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("lock", "claim", "expected", "more"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_judge(
    lock: Lock | Opaque | None, claim: Claim | None, expected: State, more: dict[str, Any]
) -> None:
    verdict = judge(lock, claim)
    assert verdict.state is expected
    assert verdict.inert is more.get("inert", False)
    assert verdict.rebind is more.get("rebind", False)
    assert more.get("owner", "") in verdict.owner
    assert more.get("reason", "") in verdict.reason
    if expected in (State.ATTACHED, State.ARCHIVED):
        assert verdict.owner == ""
    if expected is State.LOST:
        assert verdict.reason
    if expected is State.FOREIGN:
        assert verdict.owner


@pytest.mark.parametrize(
    ("lock", "claim", "expected"), [case[1:4] for case in CASES], ids=[c[0] for c in CASES]
)
def test_without_project_document(lock: Lock | Opaque | None, claim: Claim | None, expected: State) -> None:
    """Who owns a directory does not depend on its project.json; what is free is plain then."""
    wanted = State.PLAIN if expected is State.DETACHED else expected
    assert judge(lock, claim, document=False).state is wanted


def test_at_most_one_of_two_directories_is_held() -> None:
    """The same lock id, claimed once, bound in one directory and copied into or left in another."""
    for inode, path in ((HERE, PATH), (ELSEWHERE, OTHER_PATH)):
        for kind in ("attached", "archived"):
            claim = Claim(state=kind, inode=inode, path=path)  # type: ignore[arg-type]
            held = [
                state.judge(
                    lock=of(LOCK, inode=at),
                    has_project_document=True,
                    inode=at,
                    path=at_path,
                    instance_uuid=US,
                    claim=claim,
                ).state
                in state.HELD
                for at, at_path in ((HERE, PATH), (ELSEWHERE, OTHER_PATH))
            ]
            assert held.count(True) == 1


CHANGE: dict[State, tuple[int, Rule] | None] = {
    State.PLAIN: None,
    State.DETACHED: None,
    State.ATTACHED: None,
    State.ARCHIVED: (errno.EROFS, Rule.ARCHIVED),
    State.FOREIGN: (errno.EROFS, Rule.FOREIGN),
    State.LOST: (errno.EROFS, Rule.LOST),
}
LEAVING: dict[State, tuple[int, Rule] | None] = {
    State.PLAIN: None,
    State.DETACHED: None,
    State.ATTACHED: (errno.EPERM, Rule.ATTACHED_DIRECTORY),
    State.ARCHIVED: None,
    State.FOREIGN: (errno.EPERM, Rule.FOREIGN_DIRECTORY),
    State.LOST: (errno.EPERM, Rule.LOST),
}


@pytest.mark.parametrize("which", State)
@pytest.mark.parametrize(
    ("refuse", "table"), [(state.refuse_change, CHANGE), (state.refuse_leaving, LEAVING)]
)
def test_what_each_state_permits(
    which: State, refuse: Any, table: dict[State, tuple[int, Rule] | None]
) -> None:
    verdict = Verdict(which, owner="lab2 (P4)", reason="it was so")
    expected = table[which]
    if expected is None:
        refuse(which, verdict, "P1")
        return
    with pytest.raises(Refusal) as caught:
        refuse(which, verdict, "P1")
    assert (caught.value.errno, caught.value.rule) == expected
    particulars = {State.FOREIGN: "lab2 (P4)", State.LOST: "it was so"}.get(which, "P1")
    assert particulars in caught.value.detail


def test_free_and_held_states_do_not_overlap() -> None:
    assert state.FREE | state.HELD | {State.FOREIGN, State.LOST} == set(State)
    assert not state.FREE & state.HELD


def on_another_filesystem(lock: Lock | Opaque, claim: Claim, path: bytes = OTHER_PATH) -> Verdict:
    """The same numbers, of another directory; the claim's lies at PATH."""
    return state.judge(
        lock=lock,
        has_project_document=True,
        inode=HERE,
        path=path,
        instance_uuid=US,
        claim=claim,
        elsewhere=True,
    )


@pytest.mark.parametrize("claim", [CLAIM, ARCHIVED], ids=["attached", "archived"])
def test_a_copy_on_another_filesystem_may_have_the_same_numbers(claim: Claim) -> None:
    found = on_another_filesystem(LOCK, claim)
    assert (found.state, found.inert) == (State.DETACHED, True)


def test_the_same_bytes_on_another_filesystem_are_another_claim() -> None:
    claim = replace(CLAIM, lock_content=OPAQUE.content)
    assert on_another_filesystem(OPAQUE, claim).state is State.FOREIGN
    assert on_another_filesystem(THEIRS, CLAIM).state is State.FOREIGN
