"""scripts/install-system puts everything in its place, and takes all of it away again."""

import os
import subprocess
from pathlib import Path

import pytest

from csfs.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not (ROOT / ".venv/.built-csfs").exists(), reason="this checkout is not set up: scripts/test does that"
)


def install(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts/install-system", *words], capture_output=True, text=True, timeout=100
    )


def files(top: Path) -> set[str]:
    return {f"/{path.relative_to(top)}" for path in top.rglob("*") if not path.is_dir() or path.is_symlink()}


def test_all_is_put_and_taken_away(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/other").write_text("not csfs")
    where = ("--destdir", tmp_path, "--prefix", "/usr")
    for _ in range(2):
        done = install(*where)
        assert done.returncode == 0, done.stderr
    found = files(tmp_path)
    assert {
        "/etc/logrotate.d/csfs",
        "/sbin/mount.csfs",
        "/sbin/mount.fuse.csfs",
        "/usr/bin/csfs",
        "/usr/lib/systemd/system/csfs@.service",
        "/usr/share/bash-completion/completions/csfs",
        "/usr/share/zsh/site-functions/_csfs",
        "/usr/share/fish/vendor_completions.d/csfs.fish",
        "/usr/share/man/man8/mount.csfs.8",
        *(f"/usr/share/man/man1/csfs-{name}.1" for name in COMMANDS),
    } <= found
    assert "ExecStart=/usr/bin/csfs mount" in (tmp_path / "usr/lib/systemd/system/csfs@.service").read_text()
    shown = subprocess.run([tmp_path / "usr/bin/csfs", "--version"], capture_output=True, text=True)
    assert shown.stdout.startswith("csfs, version")
    helper = subprocess.run([tmp_path / "sbin/mount.csfs"], capture_output=True, text=True)
    assert (helper.returncode, "usage" in helper.stderr) == (1, True)
    done = install(*where, "--remove")
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == {"/usr/bin/other"}
    assert "nothing is installed there" in install(*where, "--remove").stderr


def test_what_somebody_else_put_there_stays(tmp_path: Path) -> None:
    (tmp_path / "sbin").mkdir()
    (tmp_path / "sbin/mount.csfs").write_text("somebody else's")
    done = install("--destdir", tmp_path)
    assert done.returncode == 1
    assert "/sbin/mount.csfs is there and was not put there by csfs" in done.stderr
    assert files(tmp_path) == {"/sbin/mount.csfs"}


def test_what_it_does_not_know(tmp_path: Path) -> None:
    assert "absolute" in install("--destdir", "here").stderr
    assert "--nonsense is not known" in install("--nonsense").stderr
    assert "--destdir" in install("--help").stdout
    assert os.listdir(tmp_path) == []
