"""`scripts/bench`: measures csfs beside its backing filesystem and its peers, in one run."""

import json
import os
import platform
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmark import lifecycle, measure, memory, report
from benchmark.filesystems import Csfs, Filesystem, Native, mounted, peers
from benchmark.rows import ROWS
from benchmark.trees import Trees


@click.command()
@click.option("--peers", "with_peers", is_flag=True, help="Also bindfs, mergerfs and pyfuse3's example.")
@click.option(
    "--libfuse",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also libfuse's passthrough_hp and passthrough_ll, from a build's example directory.",
)
@click.option("--rows", default="", metavar="REGEX", help="Only the rows whose name it finds.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--megabytes", default=512, show_default=True, help="Size of the large file.")
@click.option("--links", default=10_000, show_default=True, help="Symlinks of an import job.")
@click.option("--jobs", multiple=True, default=(1_000, 10_000), show_default=True, help="Attach of so many.")
@click.option("--entries", default=1_000_000, show_default=True, help="Cached entries for the memory row.")
@click.option("--only-rows", is_flag=True, help="Leave out actions, attach and memory.")
@click.option("--place", type=click.Path(file_okay=False, path_type=Path), help="Where the data is made.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("bench"), show_default=True
)
def main(
    with_peers: bool,
    libfuse: Path | None,
    rows: str,
    rounds: int,
    megabytes: int,
    links: int,
    jobs: tuple[int, ...],
    entries: int,
    only_rows: bool,
    place: Path | None,
    out: Path,
) -> None:
    """Medians of several rounds, all filesystems in turn on the same tree; bench.json, bench.md, bench.png.

    Needs root: caches are dropped, and filesystems mounted.
    """
    if os.geteuid() != 0:
        raise click.ClickException("run it as root: caches are dropped, and filesystems mounted")
    out = out.absolute()
    directory = Path(tempfile.mkdtemp(prefix="csfs-bench-", dir=place)).resolve()
    try:
        more: dict[str, Any] = {"kernel": platform.release(), "cores": os.cpu_count(), "rounds": rounds}
        trees = Trees(directory, megabytes=megabytes, links=links)
        click.echo(f"making the data in {directory}", err=True)
        trees.make()
        own = Csfs(directory / "state")
        more["passthrough"] = _attach(own, trees, directory)
        filesystems: list[Filesystem] = [Native(), own]
        if with_peers or libfuse:
            found, missing = peers(directory, libfuse)
            filesystems += found
            more["missing"] = missing
            for each in missing:
                click.echo(f"not compared: {each}", err=True)
        chosen = [row for row in ROWS if re.search(rows, row.name)]
        measured = []
        for each in measure.run(
            chosen, filesystems, trees, directory, rounds, lambda text: click.echo(text, err=True)
        ):
            measured.append(each)
            click.echo(
                f"{each.round + 1}/{rounds} {each.row}: {each.filesystem} {each.rate:.1f} {each.unit}",
                err=True,
            )
        if not only_rows:
            more["actions_ms"] = lifecycle.latencies(directory)
            more["attach_seconds"] = {count: lifecycle.attach(directory, count) for count in jobs}
            more["memory"] = memory.per_entry(directory, entries)
        made = report.table(measured, [each.name for each in filesystems])
        report.show(made)
        for name, value in more.items():
            click.echo(f"{name}: {value}")
        report.save(out, measured, made, more)
        click.echo(f"written: {out}/bench.json, bench.md, bench.png")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _attach(own: Csfs, trees: Trees, directory: Path) -> str:
    """Attaches the project; whether the kernel passes data through."""
    mountpoint = directory / "mnt"
    mountpoint.mkdir(exist_ok=True)
    with mounted(own, trees.backing, mountpoint) as root:
        (root / trees.project / "cs.lock").touch()
        (root / trees.project / trees.files[0]).read_bytes()
        return str(json.loads((root / ".csfs/status.json").read_text())["containers"][0]["passthrough"])


if __name__ == "__main__":
    main()
