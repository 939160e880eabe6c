"""`csfs completion`: what a shell needs to complete csfs commands, options and paths."""

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the completions for SHELL. They ask csfs itself, so they need not be renewed after an update.

    \b
    Examples:
      csfs completion bash > /etc/bash_completion.d/csfs
      csfs completion zsh > "${fpath[1]}/_csfs"
      csfs completion fish > ~/.config/fish/completions/csfs.fish

    \b
    Exit status: 0 printed, 2 for a shell that is not known.
    """
    from csfs.cli.main import main

    made = get_completion_class(shell)
    assert made is not None, "click completes for these three"
    click.echo(made(main, {}, "csfs", "_CSFS_COMPLETE").source())
