"""`csfs`: finds the command and runs it. A command's module is imported when it is asked for."""

import importlib

import click

from csfs import __version__

COMMANDS = {
    "archive": "make a project read-only, so that its directory may leave",
    "attach": "attach a project, and show how far it is",
    "backup": "copy the store of an instance, and list the copies",
    "check": "hold an instance's store against its backing directory",
    "clone": "copy a project: the copy belongs to nobody",
    "completion": "print the completions for a shell",
    "create": "create a project: a directory named after its title",
    "demo": "show what csfs does, on a temporary directory",
    "detach": "let go of a project",
    "forget": "drop what is kept of a detached project",
    "job": "show or change the status of a job",
    "log": "show which lifecycle actions there were",
    "ls": "list the projects of a mount",
    "mount": "mount a backing directory for an instance",
    "move": "move a project, also to another filesystem or instance",
    "recover": "rebuild a lost or damaged store",
    "rescue": "take a project from an instance that is gone",
    "show": "show a project or job in detail",
    "status": "list the mounts of this node",
    "umount": "end a mount, and wait until it has ended",
    "unarchive": "make an archived project writable again",
    "version": "show versions",
    "why": "say what a path is, and why a request was refused",
}


class _Commands(click.Group):
    """Lists all commands without importing one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"csfs.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.command(cls=_Commands)
@click.version_option(__version__, prog_name="csfs")
def main() -> None:
    """A filesystem in which a CryoSPARC project is attached to exactly one instance."""
