"""The story that `csfs demo` plays and README.md prints: shell commands, and what each must answer.

The commands run in a directory in which `projects` is the backing directory, with the sample project
in it as it was detached elsewhere, and `lab1` and `lab2` are empty directories to mount it on.

`python -m csfs.cli.transcript` prints what README.md has of it.
"""

import doctest
from dataclasses import dataclass

MOUNTPOINTS = ("lab1", "lab2")
"""Where the story mounts; the instances are called so, too."""
STATE = "state"
"""What the story gives as --state."""
SAMPLE = "projects/CS-t20s"
"""Where the sample project lies on the backing directory."""


@dataclass(frozen=True)
class Step:
    """One command, and the outcome without which something is wrong."""

    says: str
    """What it shows, one line."""
    command: str
    output: str = ""
    """What it prints, `...` standing for anything (as in doctest). Empty: it prints nothing."""
    fails: bool = False
    """Whether its exit status is to be another than zero."""

    def is_met_by(self, output: str, status: int) -> bool:
        """Whether this is the outcome; blanks at the end of a line are of no account."""
        printed = "".join(line.rstrip() + "\n" for line in output.splitlines())
        expected = self.output + "\n" if self.output else ""
        as_expected = doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS)
        return as_expected and (status != 0) == self.fails


@dataclass(frozen=True)
class Chapter:
    """Steps that show one thing together."""

    title: str
    steps: tuple[Step, ...]


STORY = (
    Chapter(
        "Two instances over one directory",
        (
            Step(
                "`projects` is an ordinary directory; each instance gets its own view of it.",
                "csfs mount projects lab1 --instance lab1 --state state",
            ),
            Step(
                "The two could as well be on two nodes that share it.",
                "csfs mount projects lab2 --instance lab2 --state state",
            ),
            Step(
                "Mount point, backing directory, instance and state of each; the rest is left out here.",
                "csfs status lab1 lab2 | grep over",
                ".../lab1 over .../projects: lab1, ready, healthy\n"
                ".../lab2 over .../projects: lab2, ready, healthy",
            ),
        ),
    ),
    Chapter(
        "Create",
        (
            Step(
                "An empty directory becomes a project when cs.lock is touched in it.",
                "mkdir lab1/CS-lysozyme && touch lab1/CS-lysozyme/cs.lock",
            ),
            Step(
                "Lock and documents are there, on the backing directory as well.",
                "ls projects/CS-lysozyme",
                "cs.lock\nproject.json\nworkspaces.json",
            ),
            Step(
                "It has the first number of this instance.",
                "grep '\"uid\"' lab1/CS-lysozyme/project.json",
                '    "uid": "P1",',
            ),
            Step(
                "The same in one command, with a directory named after the title.",
                'csfs create lab1 "My Protein, Data Collection (October 1 2022)"',
                "lab1/CS-my-protein-data-collection-october-1-2022",
            ),
        ),
    ),
    Chapter(
        "Attach: one owner",
        (
            Step(
                "CS-t20s was detached elsewhere, as P9: it has documents, and no lock.",
                "touch lab1/CS-t20s/cs.lock",
            ),
            Step(
                "It is imported under a number of this instance.",
                "grep '\"uid\"' lab1/CS-t20s/project.json",
                '    "uid": "P3",',
            ),
            Step(
                "The other instance reads it.",
                "cmp lab1/CS-t20s/J1/imported_movies.cs lab2/CS-t20s/J1/imported_movies.cs",
            ),
            Step(
                "It cannot change it,",
                "touch lab2/CS-t20s/note",
                "touch: cannot touch 'lab2/CS-t20s/note': Read-only file system",
                fails=True,
            ),
            Step(
                "or take it away from its owner.",
                "rm lab2/CS-t20s/cs.lock",
                "rm: cannot remove 'lab2/CS-t20s/cs.lock': Operation not permitted",
                fails=True,
            ),
            Step(
                "Why not?",
                "csfs why lab2/CS-t20s",
                ".../lab2/CS-t20s is a project directory, state foreign\n"
                "  owner: lab1 (P3) on ...\n"
                "  its heartbeat on ...; its lock is ...\n"
                "... create .../lab2/CS-t20s/note by touch (...), uid ...: EROFS\n"
                "  because the project is attached to another instance (owner: lab1 (P3) on ...)\n"
                "  next: have its owner detach it (`csfs detach PROJECT` on its mount); see whether that"
                " instance is gone: `csfs rescue --dry-run .../lab2/CS-t20s`, and if so:"
                " `csfs rescue .../lab2/CS-t20s`\n"
                "...",
            ),
        ),
    ),
    Chapter(
        "Nothing is swept away",
        (
            Step("A copy to compare with.", "cp -a lab1/CS-t20s before"),
            Step(
                "Every single removal is refused.",
                "rm -rf lab1/CS-t20s",
                "rm: cannot remove 'lab1/CS-t20s/...': Operation not permitted\n"
                "...\n"
                "rm: cannot remove 'lab1/CS-t20s/cs.lock': Operation not permitted",
                fails=True,
            ),
            Step(
                "Naming what lies in it makes no difference.",
                "rm -rf lab1/CS-t20s/*",
                "rm: cannot remove 'lab1/CS-t20s/...': Operation not permitted\n...",
                fails=True,
            ),
            Step("Nothing is missing.", "diff -r --no-dereference before lab1/CS-t20s"),
        ),
    ),
    Chapter(
        "Not while it is in use",
        (
            Step(
                "This shell opens a file of the project for writing.",
                "exec 9>>lab1/CS-t20s/J1/job.log",
            ),
            Step(
                "So the project cannot be detached now.",
                "rm lab1/CS-t20s/cs.lock",
                "rm: cannot remove 'lab1/CS-t20s/cs.lock': Device or resource busy",
                fails=True,
            ),
            Step(
                "Who has it open?",
                "csfs why lab1/CS-t20s | tail -n 2",
                "  because a file of the project is open for writing"
                " (CS-t20s/J1/job.log is open in bash (...))\n"
                "  next: close the file or end the process (`kill PID`), then repeat",
            ),
            Step("The shell closes it.", "exec 9>&-"),
        ),
    ),
    Chapter(
        "Archive, and come back elsewhere",
        (
            Step("Archive: read-only, and free to leave.", "chmod a-w lab1/CS-t20s"),
            Step(
                "Nothing in it changes from now on.",
                "touch lab1/CS-t20s/J1/job.log",
                "touch: cannot touch 'lab1/CS-t20s/J1/job.log': Read-only file system",
                fails=True,
            ),
            Step("Pack it,", "tar -C lab1 -cf t20s.tar CS-t20s"),
            Step(
                "and delete it here.",
                "rm -rf lab1/CS-t20s",
            ),
            Step(
                "The instance still knows it.",
                "ls lab1/.csfs/projects/P3",
                "J1\n...\ndirectory\nproject.json\nrecord.json\nworkspaces.json",
            ),
            Step(
                "Unpack it at another place,",
                "mkdir lab1/restored && tar -C lab1/restored -xf t20s.tar",
            ),
            Step("and unarchive it: every file is checked first.", "chmod u+w lab1/restored/CS-t20s"),
            Step(
                "It is the same project.",
                "grep '\"uid\"' lab1/restored/CS-t20s/project.json",
                '    "uid": "P3",',
            ),
            Step(
                "Only the two files that name its place have changed.",
                "diff -rq --no-dereference before lab1/restored/CS-t20s",
                "Files before/cs.lock and lab1/restored/CS-t20s/cs.lock differ\n"
                "Files before/project.json and lab1/restored/CS-t20s/project.json differ",
                fails=True,
            ),
        ),
    ),
    Chapter(
        "Move",
        (
            Step("One rename, whatever its size.", "mv lab1/restored/CS-t20s lab1/CS-proteasome"),
            Step(
                "It is the same project still.",
                "grep '\"uid\"' lab1/CS-proteasome/project.json",
                '    "uid": "P3",',
            ),
        ),
    ),
    Chapter(
        "Clone",
        (
            Step(
                "A copy owns nothing, whatever the lock in it says.", "cp -a lab1/CS-proteasome lab1/CS-copy"
            ),
            Step(
                "csfs knows by the directory that the lock names.",
                "csfs why lab1/CS-copy",
                ".../lab1/CS-copy is a project directory, state detached\n"
                "  its cs.lock came with a copy and is inert: lab1 (P3) on ...",
            ),
            Step(
                "With a lock of its own it is a new project,",
                "rm lab1/CS-copy/cs.lock && touch lab1/CS-copy/cs.lock",
            ),
            Step("with its own number.", "grep '\"uid\"' lab1/CS-copy/project.json", '    "uid": "P4",'),
        ),
    ),
    Chapter(
        "Edit metadata",
        (
            Step(
                "Documents are edited like any file.",
                "sed -i 's/T20S proteasome/T20S, second look/' lab1/CS-proteasome/project.json",
            ),
            Step(
                "The change is on the backing directory, too.",
                "grep '\"title\"' projects/CS-proteasome/project.json",
                '    "title": "T20S, second look (EMPIAR-10025 subset)",',
            ),
            Step(
                "What is no valid document does not get in.",
                "echo '{ \"title\": ' >broken.json && cp broken.json lab1/CS-proteasome/project.json",
                "cp: failed to close 'lab1/CS-proteasome/project.json': Invalid argument",
                fails=True,
            ),
            Step(
                "Where is the mistake?",
                "csfs why lab1/CS-proteasome | tail -n 2",
                "  because the document is not valid (project.json: line 2 column 1: ...)\n"
                "  next: mend it and write it again; the document before it is still in place"
                " (`cat .../lab1/CS-proteasome/project.json`)",
            ),
            Step(
                "The document before it is still in place.",
                "grep '\"title\"' lab1/CS-proteasome/project.json",
                '    "title": "T20S, second look (EMPIAR-10025 subset)",',
            ),
        ),
    ),
    Chapter(
        "Hand over",
        (
            Step("Detach it in one instance,", "rm lab1/CS-proteasome/cs.lock"),
            Step("attach it in the other.", "touch lab2/CS-proteasome/cs.lock"),
            Step(
                "That gives it a number of its own,",
                "grep '\"uid\"' lab2/CS-proteasome/project.json",
                '    "uid": "P1",',
            ),
            Step(
                "and the first may only read it now.",
                "touch lab1/CS-proteasome/note",
                "touch: cannot touch 'lab1/CS-proteasome/note': Read-only file system",
                fails=True,
            ),
            Step(
                "The first keeps a record,",
                "grep '\"state\"' lab1/.csfs/projects/P3/record.json",
                '  "state": "detached",',
            ),
            Step(
                "until it is told to forget it.",
                "rmdir lab1/.csfs/projects/P3 && ls lab1/.csfs/projects",
                "P1\nP2\nP4",
            ),
        ),
    ),
)

ENDING = Chapter(
    "Unmount",
    (
        Step("Returns when the instance's store is closed.", "csfs umount lab1 && csfs umount lab2"),
        Step(
            "What remains are plain directories, as another tool would find them.",
            "ls projects",
            "CS-copy\nCS-lysozyme\nCS-my-protein-data-collection-october-1-2022\nCS-proteasome\nrestored",
        ),
    ),
)


def transcript() -> str:
    """The whole story in Markdown, as README.md has it."""
    return "\n\n".join(_rendered(chapter) for chapter in (*STORY, ENDING))


def _rendered(chapter: Chapter) -> str:
    lines = [f"**{chapter.title}**", "", "```text"]
    for step in chapter.steps:
        lines += [f"# {step.says}", f"$ {step.command}"]
        if step.output:
            lines.append(step.output)
    return "\n".join([*lines, "```"])


if __name__ == "__main__":
    print(transcript())
