"""Handing a project to another instance that sees the same directory: it changes hands where it lies."""

import errno
import os

import click

from csfs.cli.asking import Refused, ask
from csfs.cli.attach import attach
from csfs.cli.detach import detach
from csfs.cli.facts import attribute
from csfs.cli.staging import Note, Staging
from csfs.domain.state import State


def hand_over(note: Note, there: str, staging: Staging) -> None:
    """Does what is left to do of the move of which `note` tells. Raises ClickException, OSError.

    `there` is the source's directory on the mount of the other instance.
    """
    if os.path.lexists(there):
        if attribute(there, "state") != State.ATTACHED:
            detach(note.source)
            if note.state == State.ATTACHED:
                attach(there)
        if there != note.target and not renamed(there, note.target):
            staging.end()
            raise click.ClickException(f"{there} is handed over; to go on: csfs move {there} {note.target}")
    elif not os.path.lexists(note.target):
        raise click.ClickException(
            f"{there} is gone, and {note.target} is not there: was it moved meanwhile? csfs ls tells;"
            f" then rm -r {staging.directory}"
        )
    staging.end()


def renamed(source: str, target: str) -> bool:
    """Whether a rename did it; False for another filesystem. Raises Refused."""
    try:
        ask(source, lambda: os.rename(source, target))
    except Refused as refused:
        if refused.error == errno.EXDEV:
            return False
        raise
    return True
