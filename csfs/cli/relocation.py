"""Moving a project where rename(2) does not reach: copied, read back, put in its place, removed at the old.

At every moment one whole copy is the project. Each step is done only if the state of things says that it is
still to be done, so that the whole can be interrupted anywhere and repeated.
"""

import os
import shutil
from collections.abc import Callable

import click

from csfs.cli.archive import archive
from csfs.cli.asking import ask
from csfs.cli.attach import attach
from csfs.cli.detach import detach
from csfs.cli.facts import attribute, attributes_of, records_of
from csfs.cli.mounts import Mounted
from csfs.cli.staging import Note, Staging
from csfs.cli.tree_copy import differences
from csfs.cli.unarchive import unarchive
from csfs.domain import names
from csfs.domain.state import State

_TOP = frozenset({names.LOCK, *names.PROJECT_DOCUMENTS})


def _nothing(path: str) -> bool:
    return False


def _lock(path: str) -> bool:
    return path == names.LOCK


def _lock_or_document(path: str) -> bool:
    """What is written anew when a project is detached or attached."""
    job, _, name = path.partition("/")
    return path in _TOP or (names.is_job(job) and name == names.JOB_DOCUMENT)


class Relocation:
    """A move by copying that has begun, of which `note` tells.

    `mount` is that of the source, `other` that of the target. Within one instance the project keeps its
    number: it is archived, and unarchived at the new place. To another instance it is handed over.
    """

    def __init__(self, note: Note, staging: Staging, mount: Mounted, other: Mounted) -> None:
        self.note = note
        self.staging = staging
        self.mount = mount
        self.stays = mount.mountpoint == other.mountpoint

    def run(self) -> None:
        """Does what is left to do. Raises ClickException, OSError."""
        if os.path.lexists(self.note.source):
            self._copy()
        elif not os.path.lexists(self.note.target):
            raise click.ClickException(
                f"{self.note.source} is gone, and {self.note.target} is not there: was it moved meanwhile?"
                f" csfs ls tells; then rm -r {self.staging.directory}"
            )
        if self.stays:
            self._remove()
            self._return()
        else:
            self._hand_over()
            self._remove()
        self.staging.end()

    def situation(self) -> str:
        """What is where at the moment, for people."""
        source, target = self.note.source, self.note.target
        lines = []
        if os.path.lexists(source):
            lines.append(f"{source} is {attribute(source, 'state') or 'no project'}")
        else:
            lines.append(f"{source} has been removed")
        if os.path.lexists(target):
            lines.append(f"{target} is whole, and {attribute(target, 'state') or 'no project'}")
        else:
            lines.append(f"the copy, in {self.staging.directory}, is not whole yet")
        return "\n".join(lines)

    # -- the steps -------------------------------------------------------------------------------------

    def _copy(self) -> None:
        source, target = self.note.source, self.note.target
        if os.path.lexists(target):
            return
        self._check_source()
        if attribute(source, "state") == State.ATTACHED:
            archive(source)
        skip = _nothing if self.stays else _lock
        self.staging.fill(source, skip, what=f"moving {self.staging.name}")
        self._compare(self.staging.copy, skip)
        self.staging.put(source)

    def _check_source(self) -> None:
        """Passes if the source is still the project of which the note tells."""
        source = self.note.source
        facts = attributes_of(source)
        same = facts.get("lock_id", "") == self.note.lock_id
        if facts.get("state") == State.DETACHED and not self.stays:
            return
        if not same or facts.get("state") not in (State.ATTACHED, State.ARCHIVED, State.DETACHED):
            raise click.ClickException(
                f"{source} is not what it was when the move began, it is {facts.get('state', 'no project')}"
                f" now; nothing more was done. See: csfs why {source}"
            )

    def _compare(self, copy: str, skip: Callable[[str], bool], *, of_rest: bool = False) -> None:
        """Passes if the copy is like the source still, or like what is left of that."""
        source = self.note.source
        # The mount serves those at the top: their content counts, the times of the files behind them do not.
        found = list(differences(source, copy, lambda path: path in _TOP or skip(path), of_rest=of_rest))
        for name in sorted(_TOP):
            if skip(name):
                continue
            content = _content(source, name)
            if content != _content(copy, name) and not (of_rest and content is None):
                found.append(name)
        if found:
            raise click.ClickException(
                f"{source} is not what was copied ({', '.join(found[:5])}); nothing of that was removed."
                f" Remove the copy, then repeat: rm -rf {copy}"
            )

    def _remove(self) -> None:
        """Removes the source: the copy has been put in its place, and is whole."""
        source = self.note.source
        if not os.path.lexists(source):
            return
        state = attribute(source, "state")
        if not os.listdir(source):
            pass  # the last step of an attempt that was cut short
        elif self.stays:
            self._check_source()
            self._compare(self.note.target, _nothing, of_rest=True)
        elif state not in (State.DETACHED, ""):
            raise click.ClickException(
                f"{self.note.target} is whole and attached, but somebody else has taken {source} meanwhile,"
                f" which is therefore left: csfs why {source}"
            )
        else:
            self._compare(self.note.target, _lock_or_document, of_rest=True)
        ask(source, lambda: shutil.rmtree(source))

    def _return(self) -> None:
        """Unarchives it at the new place, within the instance that archived it."""
        target = self.note.target
        if self.note.state == State.DETACHED:
            return
        if attribute(target, "state") == State.DETACHED:
            self._check_waits()
            # The first chmod may count as the end of the copying.
            for _ in range(2):
                if attribute(target, "state") == State.DETACHED:
                    unarchive(target)
        if attribute(target, "state") not in (State.ATTACHED, State.ARCHIVED):
            raise click.ClickException(f"{target} cannot be unarchived; see: csfs why {target}")
        if self.note.state == State.ARCHIVED:
            archive(target)

    def _check_waits(self) -> None:
        known = [each for each in records_of(self.mount) if each.uid == self.note.uid]
        if not known or known[0].lock_id != self.note.lock_id or known[0].state != "archived":
            raise click.ClickException(
                f"{self.note.uid} does not wait any more for its directory {self.note.target} to come back;"
                " see: csfs ls"
            )

    def _hand_over(self) -> None:
        """Detaches it in its instance, and attaches the copy in the other."""
        source, target = self.note.source, self.note.target
        attached = attribute(target, "state") in (State.ATTACHED, State.ARCHIVED)
        if not attached and os.path.lexists(source):
            self._check_source()
            if attribute(source, "state") == State.ARCHIVED:
                self._compare(target, _lock)
                unarchive(source)
            detach(source)
            self._compare(target, _lock_or_document)
        if not attached and self.note.state != State.DETACHED:
            attach(target)
        if self.note.state == State.ARCHIVED:
            archive(target)


def _content(directory: str, name: str) -> bytes | None:
    try:
        with open(os.path.join(directory, name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
