"""`csfs version`: of csfs, of what it runs on, and of the daemons that run."""

import platform
from importlib import metadata

import click
import msgspec

from csfs import __version__
from csfs.cli.mounts import all_mounts

_PACKAGES = ("pyfuse3", "trio", "lmdb", "msgspec", "click", "rich", "xxhash")


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> None:
    """Show the version of csfs, of what it runs on, and of each mount's daemon.

    After an update a daemon goes on with the version it was started with, until it is mounted again.

    \b
    Examples:
      csfs version
      csfs version --json

    \b
    Exit status: 0.
    """
    python, kernel = platform.python_version(), platform.release()
    packages = {name: metadata.version(name) for name in _PACKAGES}
    mounts = {mount.mountpoint: mount.version or "unknown" for mount in all_mounts()}
    if as_json:
        found = {"csfs": __version__, "python": python, "kernel": kernel, "packages": packages}
        click.echo(msgspec.json.format(msgspec.json.encode({**found, "mounts": mounts}), indent=2))
        return
    click.echo(f"csfs {__version__}, Python {python}, Linux {kernel}")
    click.echo(", ".join(f"{name} {version}" for name, version in packages.items()))
    for mountpoint, version in mounts.items():
        older = "" if version == __version__ else "; mount it again to have it use this version"
        click.echo(f"{mountpoint}: served by csfs {version}{older}")
