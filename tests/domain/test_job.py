"""Job statuses: which are active, and which are exported at once (design section 5)."""

import pytest

from csfs.domain import job
from csfs.domain.job import JobStatus


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
