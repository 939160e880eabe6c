"""Job statuses: which are active, and which are exported at once (design section 5)."""

import errno

import pytest

from csfs.domain import job
from csfs.domain.job import JobStatus
from csfs.domain.refusals import Refusal
from csfs.domain.rule import Rule


@pytest.mark.parametrize(
    ("status", "active", "exported"),
    [
        ("building", False, True),
        ("queued", True, True),
        ("launched", True, False),
        ("started", True, False),
        ("running", True, False),
        ("waiting", True, False),
        ("completed", False, True),
        ("killed", False, False),
        ("failed", False, False),
        ("", False, True),
        ("some later status", False, True),
        ("RUNNING", False, True),
    ],
)
def test_statuses(status: str, active: bool, exported: bool) -> None:
    assert job.is_active(status) is active
    assert job.is_exported(status) is exported


def test_the_statuses_are_those_of_cryosparc() -> None:
    assert [status.value for status in JobStatus] == [
        "building",
        "queued",
        "launched",
        "started",
        "running",
        "waiting",
        "completed",
        "killed",
        "failed",
    ]


@pytest.mark.parametrize("before", JobStatus)
@pytest.mark.parametrize("after", JobStatus)
def test_transitions(before: JobStatus, after: JobStatus) -> None:
    if before == after or after in job.TRANSITIONS[before]:
        job.refuse_transition("J7", before, after)
        return
    with pytest.raises(Refusal) as caught:
        job.refuse_transition("J7", before, after)
    assert (caught.value.errno, caught.value.rule) == (errno.EINVAL, Rule.BAD_TRANSITION)
    for following in job.TRANSITIONS[before]:
        assert following in caught.value.advice


def test_what_the_transitions_come_to() -> None:
    """Whatever is active can be killed; what has ended is cleared, or marked as completed."""
    for active in job.ACTIVE:
        assert JobStatus.KILLED in job.TRANSITIONS[active]
        assert JobStatus.FAILED in job.TRANSITIONS[active]
    for ended in (JobStatus.COMPLETED, JobStatus.KILLED, JobStatus.FAILED):
        assert JobStatus.BUILDING in job.TRANSITIONS[ended]
        assert not job.TRANSITIONS[ended] & job.ACTIVE
    assert JobStatus.COMPLETED in job.TRANSITIONS[JobStatus.KILLED] & job.TRANSITIONS[JobStatus.FAILED]


def test_unknown_statuses() -> None:
    with pytest.raises(Refusal) as caught:
        job.refuse_transition("J7", "building", "bogus")
    assert (caught.value.errno, caught.value.rule) == (errno.EINVAL, Rule.UNKNOWN_STATUS)
    assert "completed" in caught.value.advice
    job.refuse_transition("J7", "of a later version", "completed")
    job.refuse_transition("J7", "of a later version", "of a later version")
