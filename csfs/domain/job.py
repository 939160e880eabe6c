"""Job statuses (CryoSPARC's, in its own order) and what follows from them.

Source: the JobStatus of cryosparc-tools 4.7 and 5.0; guide, "Projects and Continuous Export".
"""

import enum


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


def is_active(status: str) -> bool:
    return status in ACTIVE


def is_exported(status: str) -> bool:
    """Whether a job's document is written to the backing directory in this status.

    A status that csfs does not know is exported: holding back is for those the guide names.
    """
    return status in EXPORTED or status not in JobStatus.__members__.values()
