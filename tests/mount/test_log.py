"""The daemon's log: refusals in it, as text and as JSON, harmless to a terminal."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from csfs.cli import daemon_log
from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab, wait_for

NASTY = b"x\x1b[31m\nWIPE\xff\xe2\x80\xae"
SHOWN = r"x\x1b[31m\x0aWIPE\xff\u202e"


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def is_harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.splitlines())


def test_json(make_lab: LabMaker) -> None:
    lab = make_lab(options=("--log-format", "json"))
    lab.run("mkdir CS-a && touch CS-a/cs.lock").ok()
    with pytest.raises(PermissionError):
        os.unlink(lab / "CS-a/project.json")
    with pytest.raises(PermissionError):
        os.mkdir(os.fsencode(lab.mountpoint) + b"/.csfs/" + NASTY)
    removal, making = objects(lab.log)
    assert removal.pop("time").endswith("Z")
    command = Path("/proc/self/comm").read_text().strip()
    assert removal.pop("message").startswith(
        f"unlink of CS-a/project.json by {command} ({os.getpid()}), uid "
    )
    assert removal == {
        "level": "INFO",
        "logger": "csfs.mount.refusal_log",
        "kind": "unlink",
        "project": "P1",
        "path": "CS-a/project.json",
        "pid": os.getpid(),
        "command": command,
        "uid": os.geteuid(),
        "errno": "EPERM",
        "rule": "DOCUMENT_STAYS",
    }
    assert (making["kind"], making["path"], making["project"]) == ("mkdir", f".csfs/{SHOWN}", None)
    assert is_harmless(lab.log)
    lab.umount().ok()
    last = objects(lab.log)[-1]
    assert set(last) == {"time", "level", "logger", "message"}
    assert last["message"] == f"{lab.mountpoint} is unmounted"


def test_text_is_the_default_and_names_a_refusal_once(lab: Lab) -> None:
    for _ in range(3):
        with pytest.raises(PermissionError):
            os.mkdir(os.fsencode(lab.mountpoint) + b"/.csfs/" + NASTY)
    (refused,) = lab.refusals()
    assert refused["count"] == 3
    (line,) = [line for line in lab.log.splitlines() if "mkdir" in line]
    assert f" INFO csfs.mount.refusal_log: mkdir of .csfs/{SHOWN} by " in line
    assert f"({os.getpid()}), uid {os.geteuid()}: EPERM, files under .csfs are made by csfs" in line
    assert is_harmless(lab.log)


def test_who_is_refused_again_and_again_does_not_fill_the_disk(lab: Lab) -> None:
    long = "n" * 200
    for number in range(400):
        with pytest.raises(PermissionError):
            os.mkdir(lab / f".csfs/{number}-{long}")
    assert len(lab.refusals()) == 400
    assert 300 <= lab.log.count("mkdir of ") < 400


def test_another_word_is_refused(make_lab: LabMaker) -> None:
    lab = make_lab(mounted=False, options=("-o", "log=xml"))
    lab.try_mount().refused("-o log=xml", "text or json")
    assert not lab.is_mounted()


def test_a_mistake_in_a_handler_is_logged_with_its_request(make_lab: LabMaker) -> None:
    lab = make_lab(mounted=False)
    words = [sys.executable, "-m", "tests.mount.broken", lab.backing, lab.mountpoint, lab.state, "json"]
    daemon = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    try:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == "ready\n"
        with pytest.raises(OSError):
            os.lstat(os.fsencode(lab.mountpoint) + b"/broken" + NASTY)
        lab.umount().ok()
        _, log = daemon.communicate(timeout=20)
    finally:
        daemon.kill()
        daemon.communicate()
        if lab.is_mounted():
            subprocess.run(["umount", "-l", lab.mountpoint], check=True)
    (failed,) = [each for each in objects(log) if each["level"] == "ERROR"]
    assert is_harmless(log)
    assert failed["traceback"][0] == "Traceback (most recent call last):"
    assert failed["traceback"][-1] == "ZeroDivisionError: a mistake in a handler"
    about = {"kind": "lookup", "path": "broken" + SHOWN, "errno": "EIO", "uid": os.geteuid()}
    assert about.items() <= failed.items()


@pytest.mark.parametrize("form", daemon_log.FORMATS)
def test_what_an_error_says_is_harmless_too(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.root.handlers[:], logging.root.level
    try:
        daemon_log.to_stderr(form)
        try:
            raise ValueError(os.fsdecode(NASTY))
        except ValueError:
            logging.getLogger("a").exception("of %s", os.fsdecode(NASTY))
    finally:
        logging.root.handlers[:], logging.root.level = before
    told = capsys.readouterr().err
    assert is_harmless(told)
    assert told.startswith("{" if form == "json" else "20")
    assert told.replace("\\\\", "\\").count(r"x\x1b[31m") == 2


def rotate(lab: Lab, place: Path) -> None:
    """As logrotate does once a week, with what is installed for it."""
    installed = (Path(__file__).parents[2] / "scripts/csfs.logrotate").read_text()
    settings = place / "logrotate"
    settings.write_text(installed.replace("/var/lib/csfs", str(lab.state)))
    settings.chmod(0o644)
    words = ["logrotate", "--force", "--state", place / "logrotate.state", settings]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("logrotate") is None, reason="rotates as root, with logrotate"
)
def test_logrotate(make_lab: LabMaker, tmp_path: Path) -> None:
    lab = make_lab()
    directory, pid = lab.state / lab.name, lab.pid
    for lines in (1, 2):
        lab.run("mkdir .csfs/x").refused("not permitted")
        rotate(lab, tmp_path)
        wait_for(lambda: "the log goes on here" in lab.log, "there is a new log")
        assert "mkdir of .csfs/x" in (directory / "csfs.log.1").read_text()
        assert len(list(directory.glob("csfs.log.*"))) == lines
    assert (directory / "csfs.log.2.gz").exists()
    assert lab.status["pid"] == pid
    # A process of that number which does not write the log is not told: it may be anything.
    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            holder = directory / "mounted"
            was = holder.read_text()
            holder.write_text(was.replace(str(pid), str(other.pid), 1))
            rotate(lab, tmp_path)
            holder.write_text(was)
        finally:
            other.kill()
        assert other.wait() == -signal.SIGKILL
