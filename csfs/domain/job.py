"""Job statuses (CryoSPARC's, in its own order) and what follows from them.

Source: the JobStatus of cryosparc-tools 4.7 and 5.0; guide, "Projects and Continuous Export".
"""

import enum

from csfs.domain import refusals


class JobStatus(enum.StrEnum):
    BUILDING = "building"
    QUEUED = "queued"
    LAUNCHED = "launched"
    STARTED = "started"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    KILLED = "killed"
    FAILED = "failed"


ACTIVE = frozenset(
    {
        JobStatus.QUEUED,
        JobStatus.LAUNCHED,
        JobStatus.STARTED,
        JobStatus.RUNNING,
        JobStatus.WAITING,
    }
)
"""A job in one of these keeps its project from being detached, archived or moved."""

EXPORTED = frozenset({JobStatus.BUILDING, JobStatus.QUEUED, JobStatus.COMPLETED})
"""Written to the backing directory at once; the others when the job becomes completed."""


_ENDS = (JobStatus.COMPLETED, JobStatus.KILLED, JobStatus.FAILED)

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    # Queued by a user; an external job starts by itself, in running or waiting.
    JobStatus.BUILDING: frozenset({JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.WAITING, *_ENDS}),
    # Taken by the scheduler (started) or a monitor (launched); cleared before that.
    JobStatus.QUEUED: frozenset({JobStatus.BUILDING, JobStatus.LAUNCHED, JobStatus.STARTED, *_ENDS}),
    JobStatus.LAUNCHED: frozenset({JobStatus.STARTED, JobStatus.RUNNING, JobStatus.WAITING, *_ENDS}),
    JobStatus.STARTED: frozenset({JobStatus.LAUNCHED, JobStatus.RUNNING, JobStatus.WAITING, *_ENDS}),
    # An interactive job waits for its user, and goes on.
    JobStatus.RUNNING: frozenset({JobStatus.WAITING, *_ENDS}),
    JobStatus.WAITING: frozenset({JobStatus.RUNNING, *_ENDS}),
    # Cleared, which makes it a job to build again.
    JobStatus.COMPLETED: frozenset({JobStatus.BUILDING}),
    # Cleared, or marked as completed by its user.
    JobStatus.KILLED: frozenset({JobStatus.BUILDING, JobStatus.COMPLETED}),
    JobStatus.FAILED: frozenset({JobStatus.BUILDING, JobStatus.COMPLETED}),
}
"""From each status those that may follow it.

Source: the order of the time stamps of a v5 job (queued, started, launched, running, waiting, then an
end), its calls clear, kill, mark_completed, mark_failed and mark_running, and those of an external job
(start in running or waiting, stop) in cryosparc-tools 4.7 and 5.0.
"""


def refuse_transition(uid: str, before: str, after: str) -> None:
    """Passes if a job may go from one status to the other; otherwise raises EINVAL.

    From a status that csfs does not know (of another version) it may go anywhere that csfs knows.
    """
    if before == after:
        return
    known = JobStatus.__members__.values()
    if after not in known:
        raise refusals.unknown_status(uid, after, [status.value for status in known])
    if before in known and JobStatus(after) not in TRANSITIONS[JobStatus(before)]:
        following = [status.value for status in known if status in TRANSITIONS[JobStatus(before)]]
        raise refusals.bad_transition(uid, before, after, following)


def is_active(status: str) -> bool:
    return status in ACTIVE


def is_exported(status: str) -> bool:
    """Whether a job's document is written to the backing directory in this status.

    A status that csfs does not know is exported: holding back is for those the guide names.
    """
    return status in EXPORTED or status not in JobStatus.__members__.values()
