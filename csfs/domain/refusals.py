"""Every reason for which csfs says no, each with its errno and what to do instead.

A rule is refused with one errno wherever it is met (design section 3). Code that decides raises
one of these; only `mount.operations` turns it into an errno, and records it for `csfs why`.
"""

import enum
import errno
from collections.abc import Sequence


class Rule(enum.Enum):
    """The rules; the value is the sentence that a user is shown."""

    OPEN_WRITER = "a file of the project is open for writing"
    ACTIVE_JOB = "a job of the project is active"
    IN_TRANSITION = "another lifecycle action on the project is under way"
    ARCHIVED = "the project is archived, so it is read-only"
    FOREIGN = "the project is attached to another instance"
    LOST = "this instance has lost the project: its lock on the backing directory is not ours"
    ATTACHED_DIRECTORY = "the directory of an attached project cannot be removed"
    FOREIGN_DIRECTORY = "the directory of a project of another instance can be neither moved nor removed"
    SWEEP = "a whole attached project, or a whole job of one, cannot be swept away"
    LOCK_AMONG_OTHERS = "cs.lock is removed alone: a process that removes other things keeps it"
    ARCHIVE_LEAVES_WHOLE = "an archived project leaves as a whole, with cs.lock last"
    DOCUMENT_STAYS = "this document of an attached project can be edited but not removed or renamed"
    JOB_STAYS = "the directory of a job keeps its name and its place"
    JOB_HAS_CHILDREN = "another job has this one as a parent"
    LOCK_STAYS = "cs.lock can be touched or removed, nothing else"
    INERT_LOCK = "this cs.lock came with a copy and owns nothing, yet it is in the way"
    FORGED_LOCK = "a cs.lock that names this very directory is written by csfs alone"
    REUSED_LOCK = "a cs.lock with these bytes was another claim on this directory, which was broken"
    NOT_DEAD = "the instance that holds the project is not known to be dead"
    WRONG_LOCK_ID = "the project is held by another lock than the one that was named"
    NOTHING_TO_RESCUE = "the project is not held by another instance"
    NOT_A_PROJECT = "the directory is neither empty nor a project directory"
    BAD_DOCUMENT = "the document is not valid"
    IDENTITY_KEY = "the identity keys of a document belong to the instance"
    UNKNOWN_STATUS = "a job has no such status"
    BAD_TRANSITION = "a job does not go from the one status to the other"
    NESTED = "a project directory cannot lie inside another"
    BOUNDARY = "files do not move or link across the boundary of a project"
    CONTAINERS = "at the top of this mount lie its containers, and nothing else"
    ACROSS_CONTAINERS = "files do not move or link from one container to another"
    AWAY = "the backing directory of this container is not there"
    INCOMPLETE = "the archived project is not whole"
    NOT_DETACHED = "only a detached project can be forgotten"
    EXCHANGE = "project directories cannot be exchanged in one step"
    RESERVED_NAME = "the name is reserved for csfs"
    WRITTEN_BY_OTHERS = "another user has the file open for writing, and would write what it may do then"
    CONTROL = "files under .csfs are made by csfs"
    STORAGE_FULL = "the backing filesystem has no room"
    STORAGE_READ_ONLY = "the backing filesystem is mounted read-only"
    STORAGE_DENIED = "the backing filesystem does not permit it to the user of the mount"
    STORAGE_FAILED = "the backing filesystem fails"
    STORE_FAILED = "the store of the instance cannot be written or read"
    DOCUMENT_SIZE = "the document is larger than any may be"
    TOO_MANY_FILES = "as many files are open on the mount as its daemon can have open"
    UNKNOWN_ATTRIBUTE = "there is no such user.csfs attribute to set"


class Refusal(Exception):
    """A request that csfs refuses.

    `errno` is what the caller gets, `rule` why, `detail` the particulars (who, what, where), and
    `advice` the next step that leads on.
    """

    def __init__(self, errno: int, rule: Rule, advice: str, detail: str = "") -> None:
        super().__init__(errno, rule, advice, detail)
        self.errno = errno
        self.rule = rule
        self.advice = advice
        self.detail = detail

    def __str__(self) -> str:
        reason = f"{self.rule.value} ({self.detail})" if self.detail else self.rule.value
        return f"{reason}; {self.advice}"


def open_writer(holders: Sequence[str]) -> Refusal:
    return Refusal(
        errno.EBUSY,
        Rule.OPEN_WRITER,
        "close the file or end the process, then repeat",
        "; ".join(holders),
    )


def active_jobs(jobs: Sequence[str]) -> Refusal:
    shown = ", ".join(jobs[:10]) + (f" and {len(jobs) - 10} more" if len(jobs) > 10 else "")
    return Refusal(errno.EBUSY, Rule.ACTIVE_JOB, "let it end or kill it, then repeat", shown)


def in_transition(action: str) -> Refusal:
    return Refusal(errno.EBUSY, Rule.IN_TRANSITION, "wait for it to end, then repeat", action)


def archived(uid: str) -> Refusal:
    return Refusal(errno.EROFS, Rule.ARCHIVED, "unarchive it first: chmod u+w on its directory", uid)


def foreign(owner: str) -> Refusal:
    return Refusal(
        errno.EROFS,
        Rule.FOREIGN,
        "detach it there first (rm cs.lock on its mount); if that instance is gone: csfs rescue DIRECTORY",
        f"owner: {owner}",
    )


def foreign_directory(owner: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.FOREIGN_DIRECTORY,
        "detach it there first (rm cs.lock on its mount); if that instance is gone: csfs rescue DIRECTORY",
        f"owner: {owner}",
    )


def not_dead(owner: str, heartbeat: str, lock_id: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.NOT_DEAD,
        "detach it there (rm cs.lock on its mount); only if that instance will never come back:"
        f" csfs rescue --lock-id {lock_id} DIRECTORY",
        f"owner: {owner}; {heartbeat}",
    )


def wrong_lock_id(lock_id: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.WRONG_LOCK_ID,
        "look who holds it now before you repeat: csfs rescue DIRECTORY",
        f"its lock is {lock_id}",
    )


def nothing_to_rescue(what: str) -> Refusal:
    return Refusal(errno.EINVAL, Rule.NOTHING_TO_RESCUE, "see what it is now: csfs why DIRECTORY", what)


def lost(reason: str) -> Refusal:
    return Refusal(
        errno.EROFS,
        Rule.LOST,
        "remove cs.lock here to let go of the project; what the store knew of it is kept",
        reason,
    )


def attached_directory(uid: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.ATTACHED_DIRECTORY,
        "detach it first: rm cs.lock in it; then it may be removed",
        uid,
    )


def lost_directory(reason: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.LOST,
        "remove cs.lock here to let go of the project; what the store knew of it is kept",
        reason,
    )


def sweep(what: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.SWEEP,
        "to delete a project, detach it first (rm cs.lock); to delete a job, rm its job.json first",
        what,
    )


def lock_among_others() -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.LOCK_AMONG_OTHERS,
        "to detach, run rm on cs.lock and nothing else",
    )


def archive_leaves_whole(uid: str) -> Refusal:
    return Refusal(
        errno.EROFS,
        Rule.ARCHIVE_LEAVES_WHOLE,
        "remove the whole directory (rm -rf), or unarchive it first: chmod u+w",
        uid,
    )


def document_stays(name: str) -> Refusal:
    return Refusal(errno.EPERM, Rule.DOCUMENT_STAYS, "edit it in place, or detach the project first", name)


def job_stays(name: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.JOB_STAYS,
        f"copy it instead (cp -a), or delete the job first: rm {name}/job.json",
        name,
    )


def job_has_children(children: Sequence[str]) -> Refusal:
    return Refusal(errno.EBUSY, Rule.JOB_HAS_CHILDREN, "delete the children first", ", ".join(children[:10]))


def lock_stays() -> Refusal:
    return Refusal(errno.EPERM, Rule.LOCK_STAYS, "touch cs.lock to attach, rm cs.lock to detach")


def inert_lock(origin: str) -> Refusal:
    return Refusal(
        errno.EEXIST,
        Rule.INERT_LOCK,
        "remove it (rm cs.lock), then touch cs.lock; what was archived here comes back with chmod u+w",
        origin,
    )


def forged_lock() -> Refusal:
    return Refusal(errno.EPERM, Rule.FORGED_LOCK, "touch cs.lock to attach the project")


def reused_lock() -> Refusal:
    return Refusal(errno.EPERM, Rule.REUSED_LOCK, "write other bytes, or touch cs.lock")


def not_a_project(found: str) -> Refusal:
    return Refusal(
        errno.EINVAL,
        Rule.NOT_A_PROJECT,
        "touch cs.lock in an empty directory to create a project, or where a project.json lies",
        found,
    )


def bad_document(name: str, where: str) -> Refusal:
    return Refusal(
        errno.EINVAL,
        Rule.BAD_DOCUMENT,
        "mend it and write it again; the document before it is still in place",
        f"{name}: {where}",
    )


def identity_key(name: str, key: str) -> Refusal:
    return Refusal(
        errno.EINVAL,
        Rule.IDENTITY_KEY,
        "keep these values as they are: uid, uid_num, project_uid, project_uid_num, project_dir,"
        " archived, detached",
        f"{name}: {key}",
    )


def unknown_status(uid: str, status: str, known: Sequence[str]) -> Refusal:
    return Refusal(
        errno.EINVAL, Rule.UNKNOWN_STATUS, f"give it one of: {', '.join(known)}", f"{uid}: {status!r}"
    )


def bad_transition(uid: str, before: str, after: str, following: Sequence[str]) -> Refusal:
    return Refusal(
        errno.EINVAL,
        Rule.BAD_TRANSITION,
        f"take it to one of these instead: {', '.join(following)}",
        f"{uid}: {before} to {after}",
    )


def nested(path: str) -> Refusal:
    return Refusal(errno.EPERM, Rule.NESTED, "choose a place outside of any project", path)


def boundary() -> Refusal:
    return Refusal(errno.EXDEV, Rule.BOUNDARY, "copy instead (mv does so by itself)")


def containers() -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.CONTAINERS,
        "use one of them; to have another, name it in the file that csfs mount was given, and mount again",
    )


def across_containers() -> Refusal:
    return Refusal(
        errno.EXDEV,
        Rule.ACROSS_CONTAINERS,
        "copy instead (mv does so by itself); archive a project first (chmod a-w)",
    )


def away(detail: str) -> Refusal:
    return Refusal(
        errno.ENODEV,
        Rule.AWAY,
        "see that its filesystem is mounted, then end this mount (csfs umount) and mount again",
        detail,
    )


def incomplete(differences: Sequence[str]) -> Refusal:
    shown = "; ".join(differences[:20])
    if len(differences) > 20:
        shown += f"; and {len(differences) - 20} more"
    return Refusal(
        errno.EIO,
        Rule.INCOMPLETE,
        "restore what is missing, or accept it: csfs unarchive --accept-changes DIRECTORY",
        shown,
    )


def not_detached(uid: str, state: str) -> Refusal:
    return Refusal(errno.EPERM, Rule.NOT_DETACHED, "detach it first: rm cs.lock in it", f"{uid} is {state}")


def exchange() -> Refusal:
    return Refusal(errno.EINVAL, Rule.EXCHANGE, "move one of them aside first")


def reserved_name(name: str) -> Refusal:
    return Refusal(errno.EPERM, Rule.RESERVED_NAME, "choose another name", name)


def written_by_others(writer: str) -> Refusal:
    return Refusal(
        errno.ETXTBSY, Rule.WRITTEN_BY_OTHERS, "give it set-id bits once that process has closed it", writer
    )


def control() -> Refusal:
    return Refusal(
        errno.EPERM, Rule.CONTROL, "read them; rmdir .csfs/projects/P<n> forgets a detached project"
    )


def storage_full(code: int, detail: str) -> Refusal:
    return Refusal(code, Rule.STORAGE_FULL, "make room there or have the quota raised, then repeat", detail)


def storage_read_only(detail: str) -> Refusal:
    return Refusal(
        errno.EROFS, Rule.STORAGE_READ_ONLY, "have it mounted read-write again (mount -o remount,rw)", detail
    )


def storage_denied(detail: str) -> Refusal:
    return Refusal(
        errno.EACCES, Rule.STORAGE_DENIED, "look at owner and mode of the backing directory", detail
    )


def storage_failed(code: int, detail: str) -> Refusal:
    return Refusal(
        code, Rule.STORAGE_FAILED, "see that the storage is there and answers, then repeat", detail
    )


def store_failed(code: int, detail: str) -> Refusal:
    return Refusal(
        code,
        Rule.STORE_FAILED,
        "see that the state directory can be written and has room, then repeat",
        detail,
    )


def unknown_attribute(name: str) -> Refusal:
    return Refusal(errno.EPERM, Rule.UNKNOWN_ATTRIBUTE, "list them with getfattr -d", name)


def document_size(detail: str) -> Refusal:
    return Refusal(
        errno.EFBIG,
        Rule.DOCUMENT_SIZE,
        "keep data in files of their own; the document before it is still in place",
        detail,
    )


def too_many_files(detail: str) -> Refusal:
    return Refusal(
        errno.ENFILE,
        Rule.TOO_MANY_FILES,
        "close some, or mount again with a higher limit (ulimit -Hn; LimitNOFILE of its service)",
        detail,
    )
