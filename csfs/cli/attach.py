"""`csfs attach`: `touch cs.lock`, with a bar and the reason if it is refused."""

import sys
import threading
from pathlib import Path

import click
import msgspec

from csfs.cli.asking import INTERRUPTED, Refused, ask
from csfs.cli.mounts import Mounted, absolute, control_file, mount_of
from csfs.domain import names

_LOOK_SECONDS = 0.2


@click.command("attach")
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
def command(directory: str) -> None:
    """Attach the project in DIRECTORY to the instance of its mount.

    Does what `touch DIRECTORY/cs.lock` does, and shows how far it is.

    \b
    Examples:
      csfs attach /mnt/cs/CS-a

    \b
    Exit status: 0 it is attached, 1 refused, 130 interrupted.
    """
    path = absolute(directory)
    mount = mount_of(path)
    failure: list[Refused] = []

    def work() -> None:
        try:
            attach(path)
        except Refused as error:
            failure.append(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        _show_progress(worker, mount, Path(path))
        worker.join()
    except KeyboardInterrupt:
        click.echo(f"\nthe mount goes on with it; see how it ends: csfs why {path}", err=True)
        sys.exit(INTERRUPTED)
    if failure:
        raise failure[0]


def attach(path: str) -> None:
    """`touch cs.lock` in an absolute path. Raises Refused."""
    ask(path, Path(path, names.LOCK).touch)


def _show_progress(worker: threading.Thread, mount: Mounted, directory: Path) -> None:
    """A bar on a terminal until the worker has ended; a quick attach shows none."""
    worker.join(_LOOK_SECONDS)
    if not worker.is_alive():
        return
    total = sum(1 for each in directory.iterdir() if names.is_job(each.name))
    with click.progressbar(length=total, label="jobs", file=sys.stderr) as bar:
        while worker.is_alive():
            bar.update(_jobs_read(mount, directory) - bar.pos)
            worker.join(_LOOK_SECONDS)
        bar.update(total - bar.pos)


def _jobs_read(mount: Mounted, directory: Path) -> int:
    status = msgspec.json.decode(control_file(mount, "status.json"))
    path = absolute(str(directory))[len(mount.mountpoint) :].strip("/")
    found = status["transitions"].get(path, {"done": 0})
    done: int = found["done"]
    return done
