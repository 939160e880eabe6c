"""The man pages, made from the commands themselves: `python -m csfs.cli.manual DIRECTORY` writes them."""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from csfs import __version__
from csfs.cli.main import COMMANDS, main

_HEADING = re.compile(r"([A-Z][A-Za-z ]+):[ \n](.*)", re.S)

MOUNT_PAGE = r"""
.TH MOUNT.CSFS 8 "" "csfs %s" "csfs"
.SH NAME
mount.csfs \- mount a csfs filesystem
.SH SYNOPSIS
.B mount \-t csfs
.I BACKING MOUNTPOINT
[\fB\-o instance=\fINAME\fR[,\fIOPTION\fR...]]
.SH DESCRIPTION
Called by
.BR mount (8)
for filesystems of type csfs, and through it for lines of /etc/fstab. It returns when the mount answers.
.I BACKING
is a directory with projects, or a file that names an instance and its containers, as for
.BR csfs\-mount (1).
.SH OPTIONS
.TP
.BI instance= NAME
whose view it is; made at the first use of a name. Needed, unless
.I BACKING
is a file that names it
.TP
.BI state= DIR
where the instance is kept; /var/lib/csfs for root
.TP
.B ro
nothing can be changed through this mount
.TP
.BR nopassthrough ", " strict ", " io=threads ", " io=inline ", " log=json ", " accept_storage
as for
.BR csfs\-mount (1)
.TP
.BI takeover= SECONDS
an instance that is silent for so long counts as dead
.TP
.BI backup= HOURS
how often the store is backed up, or off
.PP
What is for
.BR mount (8)
or systemd (noauto, nofail, user, _netdev, x\-systemd.*) is passed over. A mount cannot be remounted.
.SH EXIT STATUS
0 mounted, 1 wrong usage, 2 not possible, 32 the mount failed.
.SH EXAMPLES
.nf
mount \-t csfs /data/projects /mnt/cs \-o instance=lab1
.fi
.PP
In /etc/fstab:
.nf
/data/projects /mnt/cs csfs instance=lab1,_netdev,nofail 0 0
/etc/csfs/lab2.toml /mnt/cs2 csfs noauto,x\-systemd.automount,_netdev 0 0
.fi
.SH SEE ALSO
.BR csfs (1),
.BR mount (8),
.BR fstab (5)
"""


def pages() -> dict[str, str]:
    """File name -> man page, for csfs and each of its commands, and for mount.csfs."""
    context = click.Context(main, info_name="csfs")
    found = {"csfs.1": _overview(context)}
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None, "it was listed"
        found[f"csfs-{name}.1"] = _page(command, ["csfs", name])
    found["mount.csfs.8"] = MOUNT_PAGE.strip().replace("%s", __version__) + "\n"
    return found


def _page(command: click.Command, words: list[str]) -> str:
    lines = _title("-".join(words), COMMANDS[words[1]])
    lines += [".SH SYNOPSIS", *_synopsis(command, words)]
    sections = list(_sections(command))
    described = [line for heading, line in sections if not heading]
    # A paragraph is begun by the heading itself.
    lines += [".SH DESCRIPTION", "\n".join(described).removeprefix(".PP\n")]
    for name, each in sorted(getattr(command, "commands", {}).items()):
        lines += [f".SH {escaped(' '.join([*words, name])).upper()}", *_synopsis(each, [*words, name])]
        lines += [line for heading, line in _sections(each) if not heading]
        sections += [(heading, line) for heading, line in _sections(each) if heading]
    lines += [*_options(command)]
    for heading in dict.fromkeys(heading for heading, _ in sections if heading):
        lines += [f".SH {heading.upper()}", *(line for found, line in sections if found == heading)]
    return "\n".join([*lines, ".SH SEE ALSO", ".BR csfs (1)"]) + "\n"


def _overview(context: click.Context) -> str:
    lines = _title("csfs", main.get_short_help_str(100))
    lines += [".SH SYNOPSIS", ".B csfs", ".I COMMAND", "[\\fIARGUMENT\\fR...]", ".SH DESCRIPTION"]
    lines += [escaped(inspect.cleandoc(main.help or "")), ".SH COMMANDS"]
    for name in main.list_commands(context):
        lines += [".TP", f".BR csfs\\-{escaped(name)} (1)", escaped(COMMANDS[name])]
    return "\n".join([*lines, ".SH SEE ALSO", ".BR mount.csfs (8)"]) + "\n"


def _title(name: str, says: str) -> list[str]:
    return [
        f'.TH {escaped(name).upper()} 1 "" "csfs {__version__}" "csfs"',
        ".SH NAME",
        f"{escaped(name)} \\- {escaped(says.rstrip('.'))}",
    ]


def _synopsis(command: click.Command, words: list[str]) -> list[str]:
    context = click.Context(command, info_name=words[-1])
    pieces = " ".join(command.collect_usage_pieces(context))
    return [f".B {escaped(' '.join(words))}", escaped(pieces)]


def _sections(command: click.Command) -> Iterator[tuple[str, str]]:
    """The paragraphs of a help text, each under the heading that it begins with; empty for none."""
    for block in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        literal = block.startswith("\b\n")
        text = block.removeprefix("\b\n")
        found = _HEADING.match(text) if literal else None
        if found is None:
            yield "", ".PP\n" + (_literal(text) if literal else escaped(" ".join(text.split())))
        else:
            yield found.group(1), _literal(inspect.cleandoc("\n" + found.group(2)))


def _literal(text: str) -> str:
    """In the lines that it has."""
    return f".nf\n{escaped(text)}\n.fi"


def _options(command: click.Command) -> list[str]:
    lines = [".SH OPTIONS"]
    context = click.Context(command)
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        # An argument is told of in the text.
        if record is not None and isinstance(parameter, click.Option):
            lines += [".TP", f".B {escaped(record[0])}", escaped(record[1])]
    return lines


def escaped(text: str) -> str:
    """Text as roff has it: no character of it a command."""
    made = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line.startswith((".", "'")) else line for line in made.split("\n"))


def write(directory: Path) -> None:
    """Writes each page to man1 or man8 in a directory. Raises OSError."""
    for name, page in pages().items():
        place = directory / f"man{name[-1]}" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(page)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
