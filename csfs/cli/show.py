"""`csfs show`: one project or one job in detail."""

import os
import sys
from collections import Counter
from typing import Any

import click
import msgspec

from csfs.cli.facts import attributes_of, project_of
from csfs.cli.mounts import absolute, mount_of
from csfs.cli.sizes import readable, size_of
from csfs.domain import names
from csfs.domain.document import Invalid, Kind, parse

_NEWEST_JOBS = 5


@click.command("show")
@click.argument("path", type=click.Path(exists=True))
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(path: str, as_json: bool) -> None:
    """Show the project or the job that PATH is, or lies in.

    \b
    Examples:
      csfs show /mnt/cs/CS-a
      csfs show /mnt/cs/CS-a/J7
      csfs show --json /mnt/cs/CS-a

    \b
    Exit status: 0 shown, 1 if PATH belongs to no project.
    """
    target = absolute(path)
    mount = mount_of(target)
    project, facts = project_of(target, mount.mountpoint)
    if project is None:
        raise click.ClickException(f"{target} belongs to no project; csfs ls --all lists the projects")
    name = target[len(project) :].strip("/").partition("/")[0]
    if names.is_job(name):
        found = {**_job(project, name), "project": facts.get("uid", ""), "directory": f"{project}/{name}"}
    else:
        found = {**facts, **_project(project), "directory": project}
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
        return
    width = max(map(len, found))
    for key, value in found.items():
        if value not in ("", [], {}, None):
            label = click.style(f"{key.replace('_', ' '):{width}}", bold=sys.stdout.isatty())
            click.echo(f"{label}  {_shown(key, value)}")


def _shown(key: str, value: object) -> str:
    if key == "bytes" and isinstance(value, int):
        return readable(value)
    if isinstance(value, dict):
        return ", ".join(f"{count} {name}" for name, count in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _project(directory: str) -> dict[str, Any]:
    """What the documents of a project say, in whatever state it is."""
    jobs = sorted((name for name in os.listdir(directory) if names.is_job(name)), key=_number)
    workspaces = _read(directory, names.WORKSPACES_DOCUMENT)
    document = _read(directory, names.PROJECT_DOCUMENT)
    statuses = Counter(_status(directory, job) for job in jobs)
    return {
        "title": document.get("title", "") if isinstance(document, dict) else "",
        "created_at": _date(document),
        "jobs": len(jobs),
        "jobs_by_status": dict(statuses.most_common()),
        "newest_jobs": [f"{job} ({_status(directory, job)})" for job in jobs[-_NEWEST_JOBS:]],
        "workspaces": [_named(each) for each in workspaces if isinstance(each, dict)]
        if isinstance(workspaces, list)
        else [],
        "bytes": size_of(directory),
    }


def _job(project: str, job: str) -> dict[str, Any]:
    directory = os.path.join(project, job)
    document = _read(directory, names.JOB_DOCUMENT)
    facts = attributes_of(directory)
    exported = attributes_of(os.path.join(directory, names.JOB_DOCUMENT)).get("exported", "")
    return {
        "uid": job,
        "title": document.get("title", "") if isinstance(document, dict) else "",
        "type": facts.get("type") or _text(document, "job_type") or _text(document, "type"),
        "status": facts.get("status") or _status(project, job),
        "attach_status": facts.get("attach_status", ""),
        "exported": exported,
        "created_at": _date(document),
        "parents": document.get("parents", []) if isinstance(document, dict) else [],
        "workspaces": document.get("workspace_uids", []) if isinstance(document, dict) else [],
        "bytes": size_of(directory),
    }


def _status(project: str, job: str) -> str:
    """As the mount says, or else the document."""
    known = attributes_of(os.path.join(project, job)).get("status")
    if known:
        return known
    try:
        with open(os.path.join(project, job, names.JOB_DOCUMENT), "rb") as file:
            return parse(file.read(), Kind.JOB).head.text("status") or "no status"
    except FileNotFoundError:
        return "no document"
    except Invalid:
        return "document not valid"


def _read(directory: str, name: str) -> Any:
    """A document as it is; empty if there is none, or it is not valid."""
    try:
        with open(os.path.join(directory, name), "rb") as file:
            return msgspec.json.decode(file.read())
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _text(document: object, key: str) -> str:
    found = document.get(key, "") if isinstance(document, dict) else ""
    return found if isinstance(found, str) else ""


def _date(document: object) -> str:
    found = document.get("created_at", "") if isinstance(document, dict) else ""
    if isinstance(found, dict):
        found = found.get("$date", "")
    return str(found)


def _named(workspace: dict[str, Any]) -> str:
    return f"{workspace.get('uid', '?')} {workspace.get('title') or ''}".strip()


def _number(job: str) -> int:
    return int(job[1:])
