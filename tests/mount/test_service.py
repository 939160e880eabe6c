"""csfs@.service and /etc/fstab under a systemd that runs."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.lab import wait_for
from tests.mount.systemd import Systemd

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(bool(Systemd.why_not()), reason=Systemd.why_not())

UNIT = "csfs@lab1"
_QUICK = "[Service]\nRestartSec=100ms\nWatchdogSec=1\n"


class Place:
    """A system with csfs in it, a backing directory and a mount point."""

    def __init__(self, system: Systemd, top: Path) -> None:
        self.system = system
        self.backing, self.mountpoint = top / "backing", top / "mnt"
        for path in (self.backing, self.mountpoint):
            path.mkdir()

    def configure(self, path: str, text: str) -> None:
        """Writes a file of the system, and has systemd read it."""
        self.system.shell(f"mkdir -p {Path(path).parent}; cat >{path} <<'END'\n{text}\nEND").ok()
        self.system.run("systemctl", "daemon-reload").ok()

    def containers(self, instance: str) -> str:
        """What a file says that names two containers."""
        for name in ("ssd", "hdd"):
            (self.backing / name).mkdir(exist_ok=True)
        lines = [f'{name} = "{self.backing / name}"' for name in ("ssd", "hdd")]
        return "\n".join([f'[instance]\nname = "{instance}"\n[containers]', *lines])

    def kill(self, number: signal.Signals) -> None:
        """A signal for the daemon of the service."""
        self.system.run("kill", f"-{number.value}", self.system.show(UNIT, "MainPID")).ok()

    def is_mounted(self) -> bool:
        return self.system.run("findmnt", "--types", "fuse.csfs", "--mountpoint", self.mountpoint).code == 0

    def answers(self) -> bool:
        return self.system.run("cat", self.mountpoint / ".csfs/status.json").code == 0

    def journal(self, unit: str) -> str:
        return self.system.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}").ok().out

    def take_down(self) -> None:
        """Nothing is mounted, configured or remembered afterwards; the system itself goes on."""
        self.system.shell(
            f"systemctl stop 'csfs@*' '*.automount'; umount --lazy {self.mountpoint};"
            " rm -rf /etc/csfs/* /var/lib/csfs /etc/systemd/system/*; : >/etc/fstab;"
            " systemctl daemon-reload; systemctl reset-failed"
        )


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    made = Systemd(tmp_path_factory.mktemp("systemd"))
    try:
        run = f"PYTHONPATH={ROOT} exec {sys.executable} -m"
        for path, module in (
            ("/usr/local/bin/csfs", "csfs"),
            ("/usr/sbin/mount.csfs", "csfs.cli.mount_helper"),
        ):
            made.shell(f"printf '%s\\n' '#!/bin/sh' '{run} {module} \"$@\"' >{path}; chmod 755 {path}").ok()
        unit = ROOT / "scripts/csfs@.service"
        made.shell(
            "mkdir -p /usr/local/lib/systemd/system;"
            f" sed 's|@csfs@|/usr/local/bin/csfs|' {unit} >/usr/local/lib/systemd/system/{unit.name};"
            " systemctl daemon-reload"
        ).ok()
        yield made
    finally:
        made.end()


@pytest.fixture
def place(system: Systemd, tmp_path: Path) -> Iterator[Place]:
    made = Place(system, tmp_path)
    yield made
    made.take_down()
    assert not made.is_mounted()


@pytest.fixture
def served(place: Place) -> Place:
    """The service runs, and there is a project with a file on its mount."""
    place.configure("/etc/systemd/system/csfs@.service.d/quick.conf", _QUICK)
    place.configure("/etc/csfs/lab1.conf", f"BACKING={place.backing}\nMOUNTPOINT={place.mountpoint}")
    place.system.run("systemctl", "start", UNIT).ok()
    place.system.shell(f"cd {place.mountpoint} && mkdir CS-a && touch CS-a/cs.lock && echo kept >CS-a/f").ok()
    return place


def test_it_has_started_when_the_mount_answers(place: Place) -> None:
    place.configure("/etc/csfs/lab1.conf", f"BACKING={place.backing}\nMOUNTPOINT={place.mountpoint}")
    status = place.system.shell(f"systemctl start {UNIT} && csfs status {place.mountpoint}").ok()
    assert "lab1, ready, healthy" in status.out
    assert place.system.show(UNIT, "ActiveState") == "active"
    place.system.run("systemctl", "stop", UNIT).ok()
    assert not place.is_mounted()
    assert place.system.show(UNIT, "Result") == "success"


@pytest.mark.parametrize(
    ("number", "result"),
    [(signal.SIGKILL, "with result 'signal'"), (signal.SIGSTOP, "with result 'watchdog'")],
)
def test_a_daemon_that_dies_or_stands_still_is_started_again(
    served: Place, number: signal.Signals, result: str
) -> None:
    system, kept = served.system, served.mountpoint / "CS-a/f"
    before = system.show(UNIT, "MainPID")
    # One program stands in the mount and has a file open; another opens it anew until it is there again.
    system.shell(
        f"(cd {served.mountpoint}/CS-a; exec sleep 1000 5<f) >/dev/null 2>&1 & echo $! >/run/inside"
    ).ok()
    client = (
        f"touch /run/began; while cat {kept}; do :; done; until cat {kept}; do :; done; touch /run/recovered"
    )
    system.shell(f"rm -f /run/began /run/recovered; ({client}) >/dev/null 2>&1 &").ok()
    wait_for(lambda: system.run("test", "-e", "/run/began").code == 0, "the client reads")
    served.kill(number)
    wait_for(lambda: system.show(UNIT, "MainPID") not in ("0", before), "systemd has started it again")
    wait_for(lambda: system.show(UNIT, "ActiveState") == "active", "the mount is there again")
    wait_for(lambda: system.run("test", "-e", "/run/recovered").code == 0, "the client has its file again")
    assert system.run("cat", kept).ok().out == "kept\n"
    assert result in served.journal(UNIT)
    system.shell(f"touch {served.mountpoint}/CS-a/more && csfs status {served.mountpoint}").ok()
    system.shell("kill $(cat /run/inside)").ok()


def test_it_stops_while_it_is_in_use(served: Place) -> None:
    system = served.system
    system.shell(
        f"(cd {served.mountpoint}/CS-a; exec sleep 1000) >/dev/null 2>&1 & echo $! >/run/inside"
    ).ok()
    system.run("systemctl", "stop", UNIT).ok()
    assert not served.is_mounted()
    assert system.show(UNIT, "Result") == "success"
    system.shell("kill $(cat /run/inside)").ok()


def test_a_hangup_ends_nothing(served: Place) -> None:
    before = served.system.show(UNIT, "MainPID")
    served.kill(signal.SIGHUP)
    wait_for(lambda: "the log goes on here" in served.journal(UNIT), "the daemon has heard of it")
    assert served.answers()
    assert served.system.show(UNIT, "MainPID") == before


def test_the_containers_of_a_file_of_its_name(place: Place) -> None:
    place.configure("/etc/csfs/lab1.toml", place.containers("lab1"))
    place.configure("/etc/csfs/lab1.conf", f"MOUNTPOINT={place.mountpoint}")
    place.system.run("systemctl", "start", UNIT).ok()
    assert place.system.run("ls", place.mountpoint).ok().out.split() == ["hdd", "ssd"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (None, "MOUNTPOINT is empty"),
        ("BACKING={backing}\n", "MOUNTPOINT is empty"),
        ("BACKING={backing}\nMOUNTPOINT={mountpoint}\nOPTIONS=takeover=soon", "a number of seconds"),
        ("BACKING={backing}/other.toml\nMOUNTPOINT={mountpoint}", "is for the instance lab2, not for lab1"),
        ("BACKING={backing}/bad.toml\nMOUNTPOINT={mountpoint}", "bad.toml is not TOML"),
    ],
)
def test_what_is_wrong_is_in_the_journal_and_not_tried_again(
    place: Place, settings: str | None, reason: str
) -> None:
    (place.backing / "other.toml").write_text(place.containers("lab2"))
    (place.backing / "bad.toml").write_text("[instance")
    place.configure("/etc/systemd/system/csfs@.service.d/quick.conf", _QUICK)
    if settings is not None:
        text = settings.format(backing=place.backing, mountpoint=place.mountpoint)
        place.configure("/etc/csfs/lab1.conf", text)
    place.system.run("systemctl", "start", UNIT).refused("failed")
    assert place.system.show(UNIT, "ActiveState") == "failed"
    assert place.system.show(UNIT, "NRestarts") == "0"
    assert reason in place.system.run("systemctl", "status", "--full", "--no-pager", UNIT).out


def test_a_storage_that_is_not_there_is_tried_for_until_there_is_no_sense_in_it(place: Place) -> None:
    place.configure("/etc/systemd/system/csfs@.service.d/quick.conf", _QUICK)
    nowhere = place.backing / "nowhere"
    place.configure("/etc/csfs/lab1.conf", f"BACKING={nowhere}\nMOUNTPOINT={place.mountpoint}")
    place.system.run("systemctl", "start", "--no-block", UNIT).ok()
    wait_for(lambda: place.system.show(UNIT, "ActiveState") == "failed", "systemd gives up")
    assert place.system.show(UNIT, "NRestarts") == "10"
    assert f"{nowhere} cannot be mounted: No such file or directory" in place.journal(UNIT)


@pytest.mark.parametrize("many", [False, True], ids=["directory", "containers"])
def test_an_access_mounts_what_fstab_says(place: Place, many: bool) -> None:
    source, options = str(place.backing), "instance=lab1,"
    if many:
        source, options = "/etc/csfs/lab1.toml", ""
        place.configure(source, place.containers("lab1"))
    line = f"{source} {place.mountpoint} csfs {options}noauto,x-systemd.automount,_netdev 0 0"
    place.configure("/etc/fstab", line)
    unit = place.system.run("systemd-escape", "--path", place.mountpoint).ok().out.strip()
    place.system.run("systemctl", "start", f"{unit}.automount").ok()
    assert not place.is_mounted()
    found = place.system.run("ls", "-A", place.mountpoint).ok().out.split()
    assert found == (["hdd", "ssd"] if many else [])
    assert place.is_mounted()
    assert place.system.show(f"{unit}.mount", "ActiveState") == "active"
    assert place.answers()
