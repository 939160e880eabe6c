"""csfs mounted by mount(8) and from an fstab, and served for a service manager."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.conftest import LabMaker
from tests.mount.lab import Done, Lab, alive, wait_for

ROOT = Path(__file__).parents[2]


class System:
    """A mount namespace of its own, in which mount(8) finds mount.csfs."""

    def __init__(self, tmp_path: Path) -> None:
        helper = tmp_path / "sbin/mount.csfs"
        helper.parent.mkdir()
        helper.write_text(
            f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m csfs.cli.mount_helper "$@"\n'
        )
        helper.chmod(0o755)
        (helper.parent / "mount.fuse.csfs").symlink_to(helper.name)
        words = ["unshare", "--mount", "--propagation", "private", "cat"]
        self._holder = subprocess.Popen(words, stdin=subprocess.PIPE)
        own = os.stat("/proc/self/ns/mnt").st_ino
        there = f"/proc/{self._holder.pid}/ns/mnt"
        wait_for(lambda: os.stat(there).st_ino != own, "the namespace is made")
        place = os.path.realpath("/sbin")
        layers = f"lowerdir={helper.parent}:{place}"
        self.run("mount", "-t", "overlay", "overlay", "-o", layers, place).ok()

    def run(self, *words: str | Path) -> Done:
        entered = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", f"--wd={ROOT}", "--"]
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [*entered, *map(str, words)], capture_output=True, text=True, timeout=60, env=environment
        )
        return Done(" ".join(map(str, words)), done.returncode, done.stdout, done.stderr)

    def end(self) -> None:
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait()


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    if os.geteuid() != 0 or shutil.which("nsenter") is None:
        pytest.skip("makes a mount namespace: for root, with nsenter")
    made = System(tmp_path)
    yield made
    made.end()


@pytest.fixture
def unmounted(system: System, make_lab: LabMaker) -> Iterator[Lab]:
    """A lab to be mounted in the namespace; its daemon has ended in the end."""
    lab = make_lab(mounted=False)
    yield lab
    while system.run("umount", lab.mountpoint).code == 0:
        pass
    if (lab.state / lab.name / "mounted").exists():
        wait_for(lambda: not alive(lab.pid), "the daemon ends")


def options(lab: Lab, *more: str) -> str:
    return ",".join([f"instance={lab.name}", f"state={lab.state}", *more])


def test_mount_by_type(system: System, unmounted: Lab) -> None:
    lab = unmounted
    system.run("mount", "-t", "csfs", lab.backing, lab.mountpoint, "-o", options(lab)).ok()
    system.run("mkdir", lab / "CS-a").ok()
    system.run("touch", lab / "CS-a/cs.lock").ok()
    assert (lab.backing / "CS-a/project.json").exists()
    again = system.run("mount", "-t", "csfs", lab.backing, lab.mountpoint, "-o", options(lab, "remount"))
    again.refused("umount it, then mount it anew")
    system.run("mount", "-o", "remount,ro", lab.mountpoint).refused("umount it, then mount it anew")
    system.run("touch", lab / "CS-a/still-writable").ok()
    second = system.run("mount", "-t", "csfs", lab.backing, lab.mountpoint, "-o", options(lab))
    assert second.refused("mount.csfs", "is a csfs mount already").code == 32
    system.run("umount", lab.mountpoint).ok()


def test_read_only(system: System, unmounted: Lab) -> None:
    lab = unmounted
    system.run("mount", "-t", "csfs", "-r", lab.backing, lab.mountpoint, "-o", options(lab)).ok()
    system.run("mkdir", lab / "CS-a").refused("Read-only file system")
    assert "ro," in system.run("findmnt", "-no", "OPTIONS", lab.mountpoint).ok().out


def test_from_fstab(system: System, unmounted: Lab, tmp_path: Path) -> None:
    lab, table = unmounted, tmp_path / "fstab"
    words = options(
        lab, "_netdev", "nofail", "noatime", "users", "x-systemd.requires=network.target", "takeover=60"
    )
    table.write_text(f"{lab.backing} {lab.mountpoint} csfs {words} 0 0\n")
    system.run("mount", "--fstab", table, lab.mountpoint).ok()
    shown = system.run("findmnt", "-no", "FSTYPE,SOURCE,OPTIONS", lab.mountpoint).ok().out
    assert shown.split()[:2] == ["fuse.csfs", str(lab.backing)]
    assert "nosuid" in shown
    assert '"takeover_seconds": 60' in system.run("cat", lab / ".csfs/status.json").ok().out
    # What is mounted already is passed over.
    system.run("mount", "--all", "--fstab", table).ok()


def test_what_is_wrong_is_said(system: System, unmounted: Lab, tmp_path: Path) -> None:
    lab = unmounted
    mount = ("mount", "-t", "csfs")
    system.run(*mount, lab.backing, lab.mountpoint).refused("-o instance=NAME")
    failed = system.run(*mount, tmp_path / "none", lab.mountpoint, "-o", options(lab))
    assert failed.refused("No such file or directory").code == 32
    system.run(*mount, "-f", lab.backing, lab.mountpoint, "-o", options(lab)).ok()
    assert system.run("findmnt", lab.mountpoint).code == 1


def test_a_service_manager_hears_of_it(make_lab: LabMaker, tmp_path: Path) -> None:
    lab = make_lab(mounted=False)
    heard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    heard.bind(str(tmp_path / "notify"))
    heard.settimeout(20)
    words = [sys.executable, "-m", "csfs", "mount", "--foreground", "--instance", lab.name]
    words += ["--state", str(lab.state), "-o", "", str(lab.backing), str(lab.mountpoint)]
    told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    with subprocess.Popen(words, cwd=ROOT, env={**os.environ, **told}, stderr=subprocess.DEVNULL) as daemon:
        try:
            first = {heard.recv(100), heard.recv(100)}
            assert first == {b"READY=1", b"WATCHDOG=1"}
            assert lab.status["state"] == "ready"
            assert heard.recv(100) == b"WATCHDOG=1"
            daemon.send_signal(signal.SIGTERM)
            while (last := heard.recv(100)) == b"WATCHDOG=1":
                pass
            assert last == b"STOPPING=1"
            assert daemon.wait(20) == 0
        finally:
            daemon.kill()
    heard.close()


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not there")
    unit = tmp_path / "csfs@lab1.service"
    unit.write_text((ROOT / "scripts/csfs@.service").read_text().replace("@csfs@", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "csfs" not in done.stderr


def test_the_unit_leaves_the_mount_to_be_seen() -> None:
    """Each of these gives a service a mount namespace, from which nothing comes out."""
    text = (ROOT / "scripts/csfs@.service").read_text()
    settings = {line.partition("=")[0] for line in text.splitlines() if not line.startswith("#")}
    hiding = {"PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectHome", "ProtectSystem"}
    hiding |= {"ProtectKernelTunables", "ProtectKernelModules", "ProtectControlGroups", "ProtectProc"}
    hiding |= {"ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "BindPaths", "TemporaryFileSystem"}
    assert not settings & hiding
    assert {"Type", "WatchdogSec", "Restart", "NoNewPrivileges", "CapabilityBoundingSet"} <= settings
