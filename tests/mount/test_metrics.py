"""`.csfs/metrics`: the format, to the letter, and that the numbers are those of what was done."""

import errno
import json
import os
import re
import resource
import subprocess
from pathlib import Path

import pytest

from csfs.domain.job import ACTIVE
from csfs.domain.rule import Rule
from csfs.mount.exposition import Exposition
from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab

Sample = tuple[str, frozenset[tuple[str, str]]]

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(?:,|\Z)')
ESCAPE = re.compile(r"\\(.)")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}


class Metrics:
    """A page in the text format 0.0.4; what is not exactly that is an error."""

    def __init__(self, page: str) -> None:
        self.types: dict[str, str] = {}
        self.samples: dict[Sample, float] = {}
        assert page.endswith("\n")
        helped, name = None, ""
        for line in page[:-1].split("\n"):
            if line.startswith("# HELP "):
                helped, text = line.removeprefix("# HELP ").split(" ", 1)
                assert NAME.match(helped)
                assert text.strip() == text != ""
                assert helped not in self.types, "one group of lines for each"
            elif line.startswith("# TYPE "):
                name, kind = line.removeprefix("# TYPE ").split(" ")
                assert name == helped
                assert kind in SUFFIXES
                assert (kind == "counter") == name.endswith("_total"), name
                self.types[name] = kind
            else:
                self._sample(line, name)
        self._check_histograms()

    def _sample(self, line: str, family: str) -> None:
        before, _, value = line.rpartition(" ")
        name, brace, rest = before.partition("{")
        labels = []
        if brace:
            assert rest.endswith("}")
            inside, at = rest[:-1], 0
            while at < len(inside):
                found = LABEL.match(inside, at)
                assert found, line
                labels.append(
                    (found[1], ESCAPE.sub(lambda each: "\n" if each[1] == "n" else each[1], found[2]))
                )
                at = found.end()
            assert len({label for label, _ in labels}) == len(labels) > 0, line
        assert name in [family + suffix for suffix in SUFFIXES[self.types[family]]], line
        sample = (name, frozenset(labels))
        assert sample not in self.samples, line
        self.samples[sample] = float(value)
        assert self.samples[sample] >= 0, line

    def _check_histograms(self) -> None:
        for family in [name for name, kind in self.types.items() if kind == "histogram"]:
            series: dict[frozenset[tuple[str, str]], list[tuple[float, float]]] = {}
            for (name, labels), value in self.samples.items():
                if name == f"{family}_bucket":
                    (bound,) = (float(text) for label, text in labels if label == "le")
                    rest = frozenset(each for each in labels if each[0] != "le")
                    series.setdefault(rest, []).append((bound, value))
            for labels, buckets in series.items():
                assert buckets == sorted(buckets), labels
                assert [count for _, count in buckets] == sorted(count for _, count in buckets)
                assert buckets[-1] == (float("inf"), self.samples[f"{family}_count", labels])
                assert (f"{family}_sum", labels) in self.samples

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, frozenset(labels.items())]

    def requests(self, kind: str, errno: str = "OK") -> float:
        key = ("csfs_requests_total", frozenset({"kind": kind, "errno": errno}.items()))
        return self.samples.get(key, 0)


def metrics(lab: Lab) -> Metrics:
    return Metrics((lab / ".csfs/metrics").read_text())


def test_requests_are_counted_by_kind_and_errno(lab: Lab) -> None:
    (lab.backing / "dir").mkdir()
    before = metrics(lab)
    for number in range(5):
        with pytest.raises(FileNotFoundError):
            os.lstat(lab / f".csfs/none-{number}")
        assert not (lab / f"dir/none-{number}").exists()
    for number in range(3):
        os.mkdir(lab / f"dir/{number}")
    os.rmdir(lab / "dir/0")
    with pytest.raises(OSError) as caught:
        os.rmdir(lab / "dir")
    assert caught.value.errno == errno.ENOTEMPTY
    os.symlink("target", lab / "dir/link")
    assert os.readlink(lab / "dir/link") == "target"
    os.rename(lab / "dir/1", lab / "dir/one")
    with pytest.raises(PermissionError):
        os.mkdir(lab / ".csfs/mine")
    after = metrics(lab)
    grown = {
        ("lookup", "ENOENT"): 5 + 1,
        ("mkdir", "OK"): 3,
        ("mkdir", "EPERM"): 1,
        ("rmdir", "OK"): 1,
        ("rmdir", "ENOTEMPTY"): 1,
        ("symlink", "OK"): 1,
        ("readlink", "OK"): 1,
        ("rename", "OK"): 1,
        ("rename", "EPERM"): 0,
        ("setxattr", "OK"): 0,
    }
    assert {each: after.requests(*each) - before.requests(*each) for each in grown} == grown
    assert after.requests("lookup") - before.requests("lookup") >= 5, "those that found nothing"
    for kind in ("lookup", "mkdir", "rmdir", "rename"):
        answers = sum(
            value
            for (name, labels), value in after.samples.items()
            if name == "csfs_requests_total" and ("kind", kind) in labels
        )
        assert answers == after.value("csfs_request_duration_seconds_count", kind=kind) > 0
        assert after.value("csfs_request_duration_seconds_sum", kind=kind) > 0
    assert after.value("csfs_requests_in_progress") == 1
    assert after.value("csfs_refusals_total", rule="CONTROL") == 1
    rules = {dict(labels)["rule"] for name, labels in after.samples if name == "csfs_refusals_total"}
    assert rules == {rule.name for rule in Rule}


def test_projects_sessions_and_what_is_open(sample: Path, make_lab: LabMaker) -> None:
    lab, other = make_lab("lab1"), make_lab("lab2")
    lab.run("touch CS-a/cs.lock && cp -a CS-a CS-b && rm CS-b/cs.lock && touch CS-b/cs.lock").ok()
    lab.run("chmod a-w CS-b && mkdir CS-c && touch CS-c/cs.lock && rm CS-c/cs.lock").ok()
    other.run("ls CS-a CS-b").ok()
    before = metrics(lab).value("csfs_passthrough_opens_total")
    with (lab / "CS-a/J1/job.json").open(), (lab / "CS-a/data").open("w") as data:
        data.write("x")
        opened = metrics(lab)
    states = {"attached": 1, "archived": 1, "detached": 1, "foreign": 0, "lost": 0}
    assert {state: opened.value("csfs_projects", state=state) for state in states} == states
    assert metrics(other).value("csfs_projects", state="foreign") == 2
    assert opened.value("csfs_open_files") == 2
    assert metrics(lab).value("csfs_open_files") == 0
    assert opened.value("csfs_known_inodes") > 3
    assert opened.value("csfs_directory_descriptors") > 1
    active = lab.backing_status["passthrough"] == "active"
    assert opened.value("csfs_passthrough_active") == active
    assert opened.value("csfs_passthrough_opens_total") - before == (1 if active else 0)
    assert opened.value("csfs_io_mode", mode="inline") + opened.value("csfs_io_mode", mode="threads") == 1
    assert sum(metrics(other).value("csfs_sessions", life=each) for each in ("alive", "silent")) == 1
    assert opened.value("csfs_container_away") == 0
    assert opened.value("csfs_heartbeat_late") == opened.value("csfs_store_failing") == 0
    assert 0 <= opened.value("csfs_heartbeat_age_seconds") < 100
    assert opened.value("csfs_takeover_seconds") == 300
    assert opened.value("csfs_transitions_in_progress") == opened.value("csfs_actions_unsettled") == 0


def test_the_store_and_the_process(lab: Lab) -> None:
    found = metrics(lab)
    assert found.value("csfs_store_page_bytes") == os.sysconf("SC_PAGE_SIZE")
    assert found.value("csfs_store_bytes") >= os.sysconf("SC_PAGE_SIZE")
    assert 0 <= found.value("csfs_store_free_pages") < found.value("csfs_store_pages")
    assert found.value("process_resident_memory_bytes") > 1 << 20
    assert found.value("process_open_fds") <= len(os.listdir(f"/proc/{lab.pid}/fd")) + 1
    assert found.value("process_max_fds") == resource.prlimit(lab.pid, resource.RLIMIT_NOFILE)[0]
    began = found.value("process_start_time_seconds")
    assert abs(began - os.stat(lab.state / "lab1/mounted").st_mtime) < 10
    assert metrics(lab).value("process_cpu_seconds_total") >= found.value("process_cpu_seconds_total") > 0
    (build,) = (dict(labels) for name, labels in found.samples if name == "csfs_build_info")
    assert build["version"] == lab.status["version"]
    lab.run("echo x > .csfs/metrics").refused("Operation not permitted")
    lab.run("rm .csfs/metrics").refused("Operation not permitted")
    assert lab.run("cat .csfs/metrics").ok().out.startswith("# HELP csfs_build_info ")


def test_labels_are_escaped() -> None:
    to, text = Exposition(), 'a "b" \\c\nd, {e="f"} \\n'
    to.family("gauge", "one", "of a\nline and a \\", [({"text": text, "more": ""}, 1), ({"text": "\\"}, 0.5)])
    page = to.encode().decode()
    assert page.count("\n") == 4
    found = Metrics(page)
    assert found.value("one", text=text, more="") == 1
    assert found.value("one", text="\\") == 0.5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small backing filesystem")
def test_exports_that_wait_are_counted(tmp_path: Path, make_lab: LabMaker) -> None:
    lab = make_lab(mounted=False, expected_in_log=["will be tried again"], options=("-o", "nopassthrough"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", lab.backing], check=True)
    try:
        lab.mount()
        lab.run("mkdir CS-a && touch CS-a/cs.lock && mkdir CS-a/J1 CS-a/J2").ok()
        for status in (b"queued", b"launched"):
            os.setxattr(lab / "CS-a/J1", "user.csfs.status", status)
        assert "launched" in ACTIVE
        assert metrics(lab).value("csfs_exports_waiting") == 0
        assert metrics(lab).value("csfs_exports_oldest_seconds") == 0
        assert metrics(lab).value("csfs_exports_held_back") == 1
        lab.run("head -c 3000000 /dev/zero > CS-a/full").refused("No space left")
        document = {**json.loads((lab / "CS-a/project.json").read_text()), "title": "t" * 100_000}
        (lab / "CS-a/project.json").write_text(json.dumps(document))
        first = metrics(lab)
        assert first.value("csfs_exports_waiting") == first.value("csfs_exports_failing") == 1
        oldest = first.value("csfs_exports_oldest_seconds")
        assert metrics(lab).value("csfs_exports_oldest_seconds") > oldest
        assert metrics(lab).value("csfs_refusals_total", rule="STORAGE_FULL") >= 1
        told = lab.csfs("status", lab.mountpoint).refused(
            "P1/project.json cannot be exported (No space left on device)"
        )
        assert told.code == 3
        assert "documents of jobs that are not completed: 1" in told.out
        os.setxattr(lab / "CS-a/J1", "user.csfs.status", b"killed")
        lab.run("rm CS-a/full && rm CS-a/cs.lock").ok()
        last = metrics(lab)
        assert last.value("csfs_exports_waiting") == last.value("csfs_exports_failing") == 0
        assert last.value("csfs_exports_held_back") == last.value("csfs_exports_oldest_seconds") == 0
        lab.umount().ok()
        lab.check_traces()
    finally:
        if lab.is_mounted():
            lab.take_down()
        subprocess.run(["umount", lab.backing], check=True)
