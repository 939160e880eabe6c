"""`csfs attach`: `touch cs.lock`, with a bar and the reason if it is refused."""

import threading
from pathlib import Path

import click
import msgspec

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
    """
    mount = mount_of(absolute(directory))
    failure: list[OSError] = []

    def touch() -> None:
        try:
            Path(directory, names.LOCK).touch()
        except OSError as error:
            failure.append(error)

    worker = threading.Thread(target=touch)
    worker.start()
    _show_progress(worker, mount, Path(directory))
    worker.join()
    if failure:
        raise click.ClickException(f"{directory}: {failure[0].strerror}; see: csfs why {directory}")


def _show_progress(worker: threading.Thread, mount: Mounted, directory: Path) -> None:
    """A bar on a terminal until the worker has ended; a quick attach shows none."""
    worker.join(_LOOK_SECONDS)
    if not worker.is_alive():
        return
    total = sum(1 for each in directory.iterdir() if names.is_job(each.name))
    with click.progressbar(length=total, label="jobs") as bar:
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
