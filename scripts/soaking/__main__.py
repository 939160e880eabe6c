"""`scripts/soak`: stresses a mount for a given time, and says whether all was right."""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from soaking import integrity, moving, samples
from soaking.load import Load, is_whole
from soaking.mounting import complaints, mounted
from soaking.sites import KINDS

_SAMPLES_SECONDS = 10.0


@click.command()
@click.option(
    "--minutes", default=10.0, show_default=True, help="In all: half for the data, half for the load."
)
@click.option("--seed", type=int, help="Of the random operations; a new one if it is not given.")
@click.option(
    "--growth", default=16.0, show_default=True, help="MiB by which the daemon may grow, see below."
)
@click.option(
    "--only", type=click.Choice(["data", "load", "move"]), help="One of the two, for the whole time; or move."
)
@click.option("--place", type=click.Path(file_okay=False, path_type=Path), help="Where the data is made.")
@click.option("--size", default=512, show_default=True, help="MiB of the project of --only move.")
@click.option("--kills", default=20, show_default=True, help="Of each way of moving, with --only move.")
def main(
    minutes: float,
    seed: int | None,
    growth: float,
    only: str | None,
    place: Path | None,
    size: int,
    kills: int,
) -> None:
    """A data stress against a model, with and without kernel passthrough; then a mixed load, watched.

    In the second half of the load the daemon's memory may not grow by more than --growth MiB. With
    --only move, as root, a project is moved to another filesystem and back, and to another container and
    back, killed at random moments and repeated, however long that takes. The last line is the verdict; the
    exit status is 1 if anything was wrong.
    """
    seed = time.time_ns() % 1_000_000 if seed is None else seed
    if only == "move":
        if os.geteuid() != 0:
            raise click.ClickException("--only move mounts filesystems of its own: run it as root")
        click.echo(f"seed {seed}, {size} MiB, {kills} kills")
    else:
        click.echo(f"seed {seed}, {minutes:g} minutes")
    directory = Path(tempfile.mkdtemp(prefix="csfs-soak-", dir=place)).resolve()
    share = minutes * 60 / (1 if only else 2)
    wrong: list[str] = []
    try:
        if only == "move":
            for number, kind in enumerate(KINDS):
                wrong += moving.soak(kind, directory / kind, size << 20, kills, seed + number, click.echo)
        if only in (None, "data"):
            wrong += _data(directory, share / 2, seed, ())
            wrong += _data(directory, share / 2, seed + 1, ("nopassthrough",))
        if only in (None, "load"):
            wrong += _load(directory, share, growth)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    for each in wrong:
        click.echo(f"WRONG: {each}")
    click.echo(f"UNSOUND: {len(wrong)} things were wrong, seed {seed}" if wrong else f"SOUND, seed {seed}")
    sys.exit(1 if wrong else 0)


def _data(directory: Path, seconds: float, seed: int, options: tuple[str, ...]) -> list[str]:
    with mounted(directory / "-".join(("data", *options)), options) as mount:
        (mount.mountpoint / "CS-a").mkdir()
        (mount.mountpoint / "CS-a/cs.lock").touch()
        steps, wrong = integrity.stress(mount.mountpoint, mount.backing, "CS-a", seconds, seed)
        passthrough = mount.status["containers"][0]["passthrough"]
    click.echo(f"data: {steps} steps in {integrity.PROCESSES} processes, passthrough: {passthrough}")
    if not steps:
        wrong.append("nothing was done")
    return wrong + complaints(mount.log)


def _load(directory: Path, seconds: float, growth: float) -> list[str]:
    with mounted(directory / "load") as mount:
        load = Load(mount)
        taken = load.run(seconds, min(_SAMPLES_SECONDS, seconds / 12), click.echo)
    turns = ", ".join(f"{name} {count}" for name, count in sorted(load.turns.items()))
    click.echo(f"load: turns of {turns}")
    wrong = load.problems + samples.growth(taken, int(growth * samples.MEBIBYTE)) if taken else load.problems
    return wrong + is_whole(mount) + complaints(mount.log)


if __name__ == "__main__":
    main()
