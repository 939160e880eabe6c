"""Refusals: one errno per rule, and words that lead on."""

import errno
import inspect

import pytest

from csfs.domain import refusals
from csfs.domain.rule import Rule
from tests.domain.refusals_made import made, makers


@pytest.mark.parametrize("name", makers())
def test_each_refusal_says_why_and_what_next(name: str) -> None:
    refusal = made(makers()[name])
    assert refusal.errno in errno.errorcode
    assert refusal.advice
    assert str(refusal) == (
        f"{refusal.rule.value} ({refusal.detail}); {refusal.advice}"
        if refusal.detail
        else f"{refusal.rule.value}; {refusal.advice}"
    )
    kinds = inspect.signature(makers()[name]).parameters
    if kinds:
        assert "something" in refusal.detail or "one" in refusal.detail


def test_every_rule_has_a_refusal() -> None:
    assert {made(function).rule for function in makers().values()} == set(Rule)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("open_writer", errno.EBUSY),
        ("active_jobs", errno.EBUSY),
        ("in_transition", errno.EBUSY),
        ("job_has_children", errno.EBUSY),
        ("archived", errno.EROFS),
        ("foreign", errno.EROFS),
        ("lost", errno.EROFS),
        ("attached_directory", errno.EPERM),
        ("foreign_directory", errno.EPERM),
        ("lost_directory", errno.EPERM),
        ("sweep", errno.EPERM),
        ("document_stays", errno.EPERM),
        ("bad_document", errno.EINVAL),
        ("identity_key", errno.EINVAL),
        ("not_a_project", errno.EINVAL),
        ("inert_lock", errno.EEXIST),
        ("boundary", errno.EXDEV),
        ("incomplete", errno.EIO),
    ],
)
def test_errnos_of_the_design(name: str, code: int) -> None:
    assert made(makers()[name]).errno == code


def test_long_lists_are_cut() -> None:
    refusal = refusals.incomplete([f"file{number} is missing" for number in range(25)])
    assert "file19 is missing" in refusal.detail
    assert "file20 is missing" not in refusal.detail
    assert refusal.detail.endswith("and 5 more")
    jobs = refusals.active_jobs([(f"J{number}", "running") for number in range(1, 13)])
    assert jobs.detail.endswith("J10 is running and 2 more")
