"""What the jobs of the sample project say of themselves: job.json, .csg output groups, job.log."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from csfs.cli.sample import DATA
from csfs.cli.sample.formats import ROWS, noise, stable_number, write

PROJECT_UID = "P9"
"""The number that the project had where it was detached."""

FIRST_DAY = datetime(2024, 5, 15, tzinfo=UTC)
"""Job J<n> was made n days later: its dates and the modification times of its files say so."""


def write_job(job: Path, document: bytes) -> None:
    """Writes what every job has. Only job.json and job.log are text; the rest is opaque to csfs."""
    write(job / "job.json", document)
    write(job / "job.log", job_log(job.name))
    write(job / "events.bson", noise(f"{job.name}/events.bson", 9_000 + 977 * len(job.name)))
    write(job / "gridfs_data" / "gridfsdata_0", noise(f"{job.name}/gridfsdata_0", 11_337))


def job_document(
    number: int,
    kind: str,
    title: str,
    status: str = "completed",
    *,
    parents: Sequence[str] = (),
    children: Sequence[str] = (),
    **more: Any,
) -> bytes:
    """A v4 job.json: the keys of the transcribed document, and `more`."""
    document = json.loads((DATA / "v4_job_external_building.json").read_bytes())
    document.update(
        _id=hashlib.sha256(f"J{number}".encode()).hexdigest()[:24],
        uid=f"J{number}",
        uid_num=number,
        project_uid=PROJECT_UID,
        project_uid_num=int(PROJECT_UID[1:]),
        type=kind,
        job_type=kind,
        title=title,
        status=status,
        created_at=date_of(number, 0),
        queued_at=date_of(number, 60),
        completed_at=date_of(number, 1_277) if status == "completed" else None,
        queued_job_hash=stable_number(f"J{number}") - 2**63,
        job_dir=f"J{number}",
        version="v4.4.1",
        parents=list(parents),
        children=list(children),
    )
    document.update(more)
    return as_json(document)


def output_result(number: int, kind: str, group: str, metafile: str, items: int) -> dict[str, Any]:
    """One entry of a v4 `output_results`, with a single version."""
    return {
        "uid": f"{metafile.partition('/')[0]}-R{number}",
        "type": kind,
        "group_name": group,
        "name": kind.partition(".")[2],
        "title": kind,
        "description": "",
        "min_fields": [["path", "O"]],
        "versions": [0],
        "metafiles": [metafile],
        "num_items": [items],
        "passthrough": False,
    }


def abinit_results() -> list[dict[str, Any]]:
    """The `output_results` of J5: each as transcribed, but with at most `ROWS` items."""
    fragment = json.loads((DATA / "v4_job_homo_abinit.json").read_text().replace("J1", "J5"))
    results: list[dict[str, Any]] = fragment["output_results"]
    for result in results:
        result["num_items"] = [min(items, ROWS) for items in result["num_items"]]
    return results


def particle_input() -> dict[str, Any]:
    """One entry of a v4 `input_slot_groups`: its `count_max` is `Infinity`, which is not JSON."""
    return {
        "type": "particle",
        "name": "particles",
        "title": "Particle stacks",
        "count_min": 1,
        "count_max": float("inf"),
        "repeat_allowed": False,
        "slots": [],
        "connections": [],
    }


def output_group(
    number: int,
    name: str,
    kind: str,
    results: Mapping[str, tuple[str, int, str]],
    *,
    version: str = "v4.4.1",
) -> bytes:
    """A .csg: for each result its metafile (relative to the .csg), its number of items, its type."""
    lines = [
        f"created: {day_of(number):%Y-%m-%d} 00:21:17.000402",
        "group:",
        f"  description: {name.replace('_', ' ')}",
        f"  name: {name}",
        f"  title: {name.replace('_', ' ').capitalize()}",
        f"  type: {kind}",
        "results:",
    ]
    for result, (metafile, items, result_type) in sorted(results.items()):
        lines += [
            f"  {result}:",
            f"    metafile: '>{metafile}'",
            f"    num_items: {items}",
            f"    type: {result_type}",
        ]
    return "\n".join([*lines, f"version: {version}", ""]).encode()


def job_log(job: str) -> bytes:
    """The job.log of a job such as `J5`, with heartbeats."""
    start = day_of(int(job[1:]))
    lines = [
        "",
        "",
        f"================= CRYOSPARCW =======  {start:%Y-%m-%d %H:%M:%S}.000000  =========",
        f"Project {PROJECT_UID} Job {job}",
        "Master cryo-master.example.org Port 39002",
        "=" * 75,
        "MAIN PROCESS PID 41877",
    ]
    for beat in range(48):
        lines.append(f"========= sending heartbeat at {start + timedelta(seconds=10 * beat):%Y-%m-%d %X}")
    return "\n".join([*lines, "========= main process now complete.", ""]).encode()


def as_json(document: Any) -> bytes:
    """A document as text: indented, and not escaped to ASCII."""
    return json.dumps(document, indent=4, ensure_ascii=False).encode()


def day_of(number: int) -> datetime:
    """The start of the day on which job J<number> was made."""
    return FIRST_DAY + timedelta(days=number)


def date_of(number: int, seconds: int) -> dict[str, str]:
    """A date as documents since v4 write it: so long after the start of the day of job J<number>."""
    return {"$date": f"{day_of(number) + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}.673Z"}
