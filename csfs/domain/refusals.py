"""Every reason for which csfs says no, each with its errno and what to do instead.

A rule is refused with one errno wherever it is met (design section 3). Code that decides raises
one of these; only `mount.operations` turns it into an errno, and records it for `csfs why`.

Each command in an advice stands in backquotes, and can be pasted as it is shown. Whoever shows it puts in
what these words stand for, as `cli.advice` does: PATH is what the request was about, TARGET where that was
to come to be, DIRECTORY the project directory (or what the request was about outside of any), MOUNTPOINT the
mount, BACKING the backing directory, BACKING_PATH what lies there as PATH, STATE the directory of the
store. Other words in capitals are left for the reader to fill in.
"""

import errno
import re
import shlex
from collections.abc import Sequence

from csfs.domain.rule import Rule


class Refusal(Exception):
    """A request that csfs refuses.

    `errno` is what the caller gets, `rule` why, `detail` the particulars (who, what, where), and
    `advice` the next step that leads on. `directory` is the project directory that it is about, relative to
    the mount point, where the request does not lead there.
    """

    def __init__(
        self, errno: int, rule: Rule, advice: str, detail: str = "", directory: bytes | None = None
    ) -> None:
        super().__init__(errno, rule, advice, detail)
        self.errno = errno
        self.rule = rule
        self.advice = advice
        self.detail = detail
        self.directory = directory

    def __str__(self) -> str:
        reason = f"{self.rule.value} ({self.detail})" if self.detail else self.rule.value
        return f"{reason}; {self.advice}"


_SHOWN = 10
"""How many jobs are named."""
_PLAIN_ID = re.compile(r"[0-9a-f][0-9a-f-]*")
_DETACH_THERE = (
    "have its owner detach it (`csfs detach PROJECT` on its mount); see whether that instance is gone:"
    " `csfs rescue --dry-run DIRECTORY`, and if so: `csfs rescue DIRECTORY`"
)
_WAIT = "wait for it to end (`csfs status MOUNTPOINT` shows it), then repeat"
_EXCHANGE = "do it in three steps: `mv PATH PATH.aside && mv TARGET PATH && mv PATH.aside TARGET`"
_GIVE_LATER = "wait until that process has closed it, or end it (`kill PID`), then repeat"
_LET_GO = "let go of it: `rm DIRECTORY/cs.lock`; what the store knew of it is kept"


def open_writer(holders: Sequence[str]) -> Refusal:
    return Refusal(
        errno.EBUSY,
        Rule.OPEN_WRITER,
        "close the file or end the process (`kill PID`), then repeat",
        "; ".join(holders),
    )


def active_jobs(jobs: Sequence[tuple[str, str]]) -> Refusal:
    """`jobs`: uid and status of each."""
    shown = ", ".join(f"{uid} is {status}" for uid, status in jobs[:_SHOWN])
    shown += f" and {len(jobs) - _SHOWN} more" if len(jobs) > _SHOWN else ""
    commands = "; ".join(f"`csfs job status DIRECTORY/{uid} killed`" for uid, _ in jobs[:_SHOWN])
    advice = f"let it end, or mark it as killed if it does not run any more: {commands}; then repeat"
    return Refusal(errno.EBUSY, Rule.ACTIVE_JOB, advice, shown)


def in_transition(action: str) -> Refusal:
    return Refusal(errno.EBUSY, Rule.IN_TRANSITION, _WAIT, action)


def archived(uid: str) -> Refusal:
    return Refusal(errno.EROFS, Rule.ARCHIVED, "unarchive it first: `chmod u+w DIRECTORY`", uid)


def foreign(owner: str) -> Refusal:
    return Refusal(
        errno.EROFS,
        Rule.FOREIGN,
        _DETACH_THERE,
        f"owner: {owner}",
    )


def foreign_directory(owner: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.FOREIGN_DIRECTORY,
        _DETACH_THERE,
        f"owner: {owner}",
    )


def _word(lock_id: str) -> str:
    """The id of a lock as a command can have it: anybody may write a lock, and anything into it."""
    return lock_id if _PLAIN_ID.fullmatch(lock_id) else "ID"


def not_dead(owner: str, heartbeat: str, lock_id: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.NOT_DEAD,
        "have its owner detach it (`csfs detach PROJECT` on its mount); only if that instance will never come"
        f" back: `csfs rescue --lock-id {_word(lock_id)} DIRECTORY`",
        f"owner: {owner}; {heartbeat}",
    )


def wrong_lock_id(lock_id: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.WRONG_LOCK_ID,
        "look who holds it now: `csfs rescue --dry-run DIRECTORY`; if that is meant:"
        f" `csfs rescue --lock-id {_word(lock_id)} DIRECTORY`",
        f"its lock is {lock_id}",
    )


def nothing_to_rescue(what: str) -> Refusal:
    return Refusal(errno.EINVAL, Rule.NOTHING_TO_RESCUE, "see what it is now: `csfs why DIRECTORY`", what)


def lost(reason: str) -> Refusal:
    return Refusal(
        errno.EROFS,
        Rule.LOST,
        _LET_GO,
        reason,
    )


def mounted_twice(successor: str) -> Refusal:
    return Refusal(
        errno.EROFS,
        Rule.MOUNTED_TWICE,
        "use that mount, and end this one: `csfs umount MOUNTPOINT`; what its store knew is kept",
        successor,
    )


def attached_directory(uid: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.ATTACHED_DIRECTORY,
        "detach it first: `rm DIRECTORY/cs.lock`; then it may be removed: `rm -r DIRECTORY`",
        uid,
    )


def lost_directory(reason: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.LOST,
        _LET_GO,
        reason,
    )


def sweep(what: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.SWEEP,
        "to delete it, detach it first: `rm DIRECTORY/cs.lock`, then `rm -r DIRECTORY`; to move it out of"
        " this mount, archive it first: `chmod a-w DIRECTORY`",
        what,
    )


def job_sweep(uid: str, what: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.SWEEP,
        f"to delete the job, remove its document first: `rm DIRECTORY/{uid}/job.json`, then the rest:"
        f" `rm -r DIRECTORY/{uid}`",
        what,
    )


def lock_among_others() -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.LOCK_AMONG_OTHERS,
        "to detach, remove it and nothing else: `rm DIRECTORY/cs.lock`",
    )


def archive_leaves_whole(uid: str) -> Refusal:
    return Refusal(
        errno.EROFS,
        Rule.ARCHIVE_LEAVES_WHOLE,
        "remove the whole directory: `rm -rf DIRECTORY`, or unarchive it first: `chmod u+w DIRECTORY`",
        uid,
    )


def document_stays(name: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.DOCUMENT_STAYS,
        "edit it in place, or detach the project first: `rm DIRECTORY/cs.lock`",
        name,
    )


def job_stays(name: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.JOB_STAYS,
        "copy it: `cp -a PATH TARGET`; then it can be deleted: `rm PATH/job.json`, `rm -r PATH`",
        name,
    )


def job_has_children(children: Sequence[str]) -> Refusal:
    commands = "; ".join(f"`rm DIRECTORY/{uid}/job.json`" for uid in children[:_SHOWN])
    advice = f"delete its children first: {commands}; then repeat"
    return Refusal(errno.EBUSY, Rule.JOB_HAS_CHILDREN, advice, ", ".join(children[:_SHOWN]))


def lock_stays() -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.LOCK_STAYS,
        "detach with `rm DIRECTORY/cs.lock`, attach with `touch DIRECTORY/cs.lock`",
    )


def inert_lock(origin: str) -> Refusal:
    return Refusal(
        errno.EEXIST,
        Rule.INERT_LOCK,
        "remove it and attach: `rm DIRECTORY/cs.lock && touch DIRECTORY/cs.lock`; what was archived here"
        " comes back with `chmod u+w DIRECTORY`",
        origin,
    )


def forged_lock() -> Refusal:
    return Refusal(errno.EPERM, Rule.FORGED_LOCK, "attach the project: `touch DIRECTORY/cs.lock`")


def reused_lock() -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.REUSED_LOCK,
        "attach with a lock of csfs's: `touch DIRECTORY/cs.lock`, or write other bytes",
    )


def not_a_project(found: str) -> Refusal:
    return Refusal(
        errno.EINVAL,
        Rule.NOT_A_PROJECT,
        "create a project in an empty directory: `csfs create PLACE TITLE`, and move the files there; or"
        " bring back the project.json: `cp -a FILE DIRECTORY/project.json && touch DIRECTORY/cs.lock`",
        found,
    )


def bad_document(name: str, where: str) -> Refusal:
    return Refusal(
        errno.EINVAL,
        Rule.BAD_DOCUMENT,
        f"mend it and write it again; the document before it is still in place (`cat DIRECTORY/{name}`)",
        f"{name}: {where}",
    )


def bad_project_document(name: str, where: str) -> Refusal:
    """Of a project that is to be attached."""
    return Refusal(
        errno.EINVAL,
        Rule.BAD_DOCUMENT,
        f"mend its {name}, then attach the project: `touch DIRECTORY/cs.lock`",
        f"{name}: {where}",
    )


def identity_key(name: str, key: str) -> Refusal:
    return Refusal(
        errno.EINVAL,
        Rule.IDENTITY_KEY,
        f"write it again with the values that `cat DIRECTORY/{name}` shows of these: uid, uid_num, "
        "project_uid, project_uid_num, project_dir, archived, detached",
        f"{name}: {key}",
    )


def unknown_status(uid: str, status: str, known: Sequence[str]) -> Refusal:
    return Refusal(
        errno.EINVAL,
        Rule.UNKNOWN_STATUS,
        f"give it one of {', '.join(known)}: `csfs job status DIRECTORY/{uid} STATUS`",
        f"{uid}: {status!r}",
    )


def bad_transition(uid: str, before: str, after: str, following: Sequence[str]) -> Refusal:
    return Refusal(
        errno.EINVAL,
        Rule.BAD_TRANSITION,
        f"take it to one of {', '.join(following)}: `csfs job status DIRECTORY/{uid} STATUS`",
        f"{uid}: {before} to {after}",
    )


def nested(path: str) -> Refusal:
    return Refusal(errno.EPERM, Rule.NESTED, "choose a place outside of any project: `mv PATH PLACE`", path)


def holds_another(path: str) -> Refusal:
    """Of a project that is to be attached: another lies in it, at this path."""
    return Refusal(
        errno.EPERM,
        Rule.NESTED,
        f"move that one out: `mv DIRECTORY/{shlex.quote(path)} PLACE`, then attach:"
        " `touch DIRECTORY/cs.lock`",
        path,
    )


def boundary() -> Refusal:
    return Refusal(errno.EXDEV, Rule.BOUNDARY, "copy instead (mv does so by itself): `cp -a PATH TARGET`")


def containers() -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.CONTAINERS,
        "use one of them (`csfs status MOUNTPOINT` lists them); to have another, name it in the file that the"
        " mount was given, and mount again: `csfs umount MOUNTPOINT && csfs mount FILE MOUNTPOINT`",
    )


def across_containers() -> Refusal:
    return Refusal(
        errno.EXDEV,
        Rule.ACROSS_CONTAINERS,
        "copy a file: `cp -a PATH TARGET` (mv does so by itself); move a project: `csfs move PATH TARGET`",
    )


def away(detail: str) -> Refusal:
    return Refusal(
        errno.ENODEV,
        Rule.AWAY,
        "see that its filesystem is mounted, then mount again:"
        " `csfs umount MOUNTPOINT && csfs mount FILE MOUNTPOINT`",
        detail,
    )


def incomplete(differences: Sequence[str]) -> Refusal:
    shown = "; ".join(differences[:20])
    if len(differences) > 20:
        shown += f"; and {len(differences) - 20} more"
    return Refusal(
        errno.EIO,
        Rule.INCOMPLETE,
        "restore what is missing and repeat, or accept it: `csfs unarchive --accept-changes DIRECTORY`",
        shown,
    )


def not_detached(uid: str, state: str, directory: bytes) -> Refusal:
    unarchive = (
        "bring it back if it is away, unarchive it (`chmod u+w DIRECTORY`) and "
        if state == "archived"
        else ""
    )
    advice = (
        f"{unarchive}detach it first: `rm DIRECTORY/cs.lock`; then `csfs forget --mount MOUNTPOINT {uid}`"
    )
    return Refusal(errno.EPERM, Rule.NOT_DETACHED, advice, f"{uid} is {state}", directory)


def exchange() -> Refusal:
    return Refusal(errno.EINVAL, Rule.EXCHANGE, _EXCHANGE)


def reserved_name(name: str) -> Refusal:
    return Refusal(errno.EPERM, Rule.RESERVED_NAME, "choose another name", name)


def written_by_others(writer: str) -> Refusal:
    return Refusal(errno.ETXTBSY, Rule.WRITTEN_BY_OTHERS, _GIVE_LATER, writer)


def control() -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.CONTROL,
        "read them (`ls MOUNTPOINT/.csfs`); a detached project is forgotten with"
        " `csfs forget --mount MOUNTPOINT NUMBER`",
    )


def storage_full(code: int, detail: str) -> Refusal:
    return Refusal(
        code,
        Rule.STORAGE_FULL,
        "make room there (`df -h BACKING`, `df -i BACKING`) or have the quota raised, then repeat",
        detail,
    )


def storage_read_only(detail: str) -> Refusal:
    return Refusal(
        errno.EROFS,
        Rule.STORAGE_READ_ONLY,
        'have it mounted read-write again: `mount -o remount,rw "$(findmnt -no target -T BACKING)"`',
        detail,
    )


def storage_denied(detail: str) -> Refusal:
    return Refusal(
        errno.EACCES,
        Rule.STORAGE_DENIED,
        "see who may what on the way there (`namei -l BACKING_PATH`), and have it permitted; then repeat",
        detail,
    )


def storage_failed(code: int, detail: str) -> Refusal:
    return Refusal(
        code,
        Rule.STORAGE_FAILED,
        "see that the storage is there and answers (`ls BACKING`), then repeat",
        detail,
    )


def store_failed(code: int, detail: str) -> Refusal:
    return Refusal(
        code,
        Rule.STORE_FAILED,
        "see that the state directory can be written and has room (`df -h STATE`), then repeat",
        detail,
    )


def unknown_attribute(name: str) -> Refusal:
    return Refusal(
        errno.EPERM,
        Rule.UNKNOWN_ATTRIBUTE,
        "use a name of your own, or one of those that `getfattr -d PATH` lists",
        name,
    )


def document_size(detail: str) -> Refusal:
    return Refusal(
        errno.EFBIG,
        Rule.DOCUMENT_SIZE,
        "keep data in files of their own; the document before it is still in place (`ls -l PATH`)",
        detail,
    )


def too_many_files(detail: str) -> Refusal:
    return Refusal(
        errno.ENFILE,
        Rule.TOO_MANY_FILES,
        "close some, or end the mount (`csfs umount MOUNTPOINT`) and mount again with a higher limit"
        " (`ulimit -n NUMBER`; LimitNOFILE of its service)",
        detail,
    )
