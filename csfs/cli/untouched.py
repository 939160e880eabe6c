"""A path on the command line that is completed, and not looked at."""

import click
from click.shell_completion import CompletionItem


class UntouchedPath(click.ParamType[str]):
    """As click.Path, without its stat(2): on a mount that hangs, that would hang too."""

    name = "path"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]
