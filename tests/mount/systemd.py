"""systemd as the first process of namespaces of its own: it starts what a test asks for, and nothing else."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.mount.lab import Done, wait_for

PROGRAM = Path("/usr/lib/systemd/systemd")
_UNITS = Path("/usr/lib/systemd/system")
_GENERATOR = Path("/usr/lib/systemd/system-generators/systemd-fstab-generator")
_TARGETS = (
    "basic local-fs local-fs-pre multi-user network network-online paths remote-fs remote-fs-pre rescue"
    " shutdown slices sockets swap sysinit timers umount"
)
_JOURNAL = {
    "systemd-journald.service": "sysinit.target.wants",
    "systemd-journald.socket": "sockets.target.wants",
    "systemd-journald-dev-log.socket": "sockets.target.wants",
}

_PREPARE = r"""
set -eu
place=$1 elsewhere=$2 program=$3
mount -t proc proc /proc
# A copy of another test's mount would keep it alive when that test ends it.
cut -d' ' -f5 /proc/self/mountinfo | grep "^$elsewhere/" | xargs -r umount --lazy || true
mount -t tmpfs tmpfs /run
for each in etc usr var; do
    mkdir "$place/$each" "$place/work-$each"
    mount -t overlay overlay -o "lowerdir=/$each,upperdir=$place/$each,workdir=$place/work-$each" "/$each"
done
mount --bind "$place/units" /usr/lib/systemd/system
mount --bind "$place/generators" /usr/lib/systemd/system-generators
rm -rf /etc/systemd /etc/csfs /var/log/journal /var/lib/csfs
mkdir -p /etc/systemd/system /etc/csfs
printf '[Journal]\nReadKMsg=no\n' >/etc/systemd/journald.conf
: >/etc/fstab
# As for any container: nothing of the machine itself is set.
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount --bind /dev/null /dev/console
mount -o remount,bind,ro /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "$program" --system --unit=multi-user.target --log-target=journal --show-status=0
"""


class Systemd:
    """A system whose /etc, /usr and /var may be written to: overlays, gone with its first process.

    `why_not` says why it cannot be had.
    """

    def __init__(self, place: Path) -> None:
        """`place`: an empty directory on a filesystem that may be the upper one of an overlay."""
        units, generators = place / "units", place / "generators"
        generators.mkdir()
        units.mkdir()
        for wanted in set(_JOURNAL.values()):
            (units / wanted).mkdir()
        for name in (*(f"{name}.target" for name in _TARGETS.split()), *_JOURNAL):
            shutil.copy(_UNITS / name, units / name)
        for name, wanted in _JOURNAL.items():
            (units / wanted / name).symlink_to(f"../{name}")
        shutil.copy(_GENERATOR, generators)
        self._group = _cgroups() / f"csfs-{os.getpid()}"
        self._group.mkdir()
        enter = ["sh", "-c", f'echo $$ >{self._group}/cgroup.procs; exec "$@"', "enter"]
        apart = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--uts",
            "--ipc",
            "--cgroup",
            "--net",
        ]
        prepare = ["sh", "-c", _PREPARE, "prepare", str(place), tempfile.gettempdir(), str(PROGRAM)]
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "SIGKILL", *enter, *apart, *prepare],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_for(self._has_started, "systemd has started")
        except BaseException:
            self.end()
            raise

    @staticmethod
    def why_not() -> str:
        """Why there can be no such system here; empty if there can."""
        if os.geteuid() != 0:
            return "makes namespaces: needs root"
        if not (PROGRAM.exists() and _GENERATOR.exists()):
            return "systemd is not installed"
        return "" if _cgroups().is_dir() else "there is no unified cgroup hierarchy, or it is read-only"

    def run(self, *words: str | Path) -> Done:
        """Runs a command in the system, in `/`."""
        shown = " ".join(map(str, words))
        enter = [
            "nsenter",
            f"--target={self._first}",
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--cgroup",
            "--net",
        ]
        done = subprocess.run(
            [*enter, "--", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"},
        )
        return Done(shown, done.returncode, done.stdout, done.stderr)

    def shell(self, script: str) -> Done:
        return self.run("bash", "-c", script)

    def show(self, unit: str, what: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--property", what, "--value", unit).ok().out.strip()

    def end(self) -> None:
        """Kills all of it; nothing is left of its mounts and cgroups."""
        try:
            os.kill(self._first, 9)
        except (ProcessLookupError, IndexError):
            pass
        self._holder.kill()
        self._holder.wait()
        # The kernel takes a moment to bury what was in them.
        wait_for(self._has_no_process, "all processes have ended")
        for at, below, _ in os.walk(self._group, topdown=False):
            for name in below:
                os.rmdir(os.path.join(at, name))
        self._group.rmdir()

    @property
    def _first(self) -> int:
        """The process id outside. Raises IndexError if there is none yet."""
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children")
        return int(children.read_text().split()[0])

    def _has_started(self) -> bool:
        assert self._holder.poll() is None, "systemd has ended"
        try:
            name = Path(f"/proc/{self._first}/comm").read_text().strip()
        except (IndexError, FileNotFoundError):
            return False
        return name == "systemd" and self.run("systemctl", "is-active", "multi-user.target").code == 0

    def _has_no_process(self) -> bool:
        return "populated 0" in (self._group / "cgroup.events").read_text()


def _cgroups() -> Path:
    """Where the unified hierarchy is mounted; beside it there may be older ones."""
    found = Path("/sys/fs/cgroup/unified")
    return found if found.is_dir() else Path("/sys/fs/cgroup")
