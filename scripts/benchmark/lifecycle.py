"""How long the actions take that only csfs has: touch, rm, chmod, mv, and the attach of many jobs."""

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from benchmark.filesystems import Csfs, mounted

_TIMES = 100
_DOCUMENT_BYTES = 60_000


def latencies(place: Path) -> dict[str, dict[str, float]]:
    """Milliseconds at the 50th and the 99th percentile, of a small project."""
    backing, mountpoint = place / "actions", place / "mnt"
    project = backing / "CS-x"
    _project(project, jobs=1)
    found: dict[str, list[float]] = {}
    with mounted(Csfs(place / "state-actions"), backing, mountpoint):
        x, y = mountpoint / "CS-x", mountpoint / "CS-y"
        for _ in range(_TIMES):
            _time(found, "attach (touch)", lambda: (x / "cs.lock").touch())
            _time(found, "archive (chmod a-w)", lambda: os.chmod(x, 0o555))
            _time(found, "unarchive (chmod u+w)", lambda: os.chmod(x, 0o755))
            _time(found, "move (mv)", lambda: x.rename(y))
            y.rename(x)
            _time(found, "detach (rm)", lambda: (x / "cs.lock").unlink())
    return {name: _percentiles(times) for name, times in found.items()}


def attach(place: Path, jobs: int) -> float:
    """Seconds for the attach of a project with so many jobs, their documents 60 KB each."""
    backing, mountpoint = place / f"attach{jobs}", place / "mnt"
    _project(backing / "CS-x", jobs)
    with mounted(Csfs(place / f"state-attach{jobs}"), backing, mountpoint):
        began = time.perf_counter()
        (mountpoint / "CS-x/cs.lock").touch()
        return time.perf_counter() - began


def _project(path: Path, jobs: int) -> None:
    path.mkdir(parents=True)
    head = {"uid": "P1", "uid_num": 1, "title": "x", "project_dir": "", "detached": True}
    (path / "project.json").write_text(json.dumps(head))
    (path / "workspaces.json").write_text("[]")
    filler = "x" * _DOCUMENT_BYTES
    for number in range(1, jobs + 1):
        uid = f"J{number}"
        (path / uid).mkdir()
        document = {
            "uid": uid,
            "project_uid": "P1",
            "type": "homo_refine",
            "status": "completed",
            "log": filler,
        }
        (path / uid / "job.json").write_text(json.dumps(document))


def _time(found: dict[str, list[float]], name: str, act: Callable[[], object]) -> None:
    began = time.perf_counter()
    act()
    found.setdefault(name, []).append((time.perf_counter() - began) * 1e3)


def _percentiles(times: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    return {"p50": cuts[49], "p99": cuts[98]}
