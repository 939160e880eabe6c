"""Several containers in one mount: on two filesystems with the same inode numbers, and on the disk."""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from csfs.mount import kernel
from tests.mount.lab import Done, Lab, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts filesystems of its own: needs root")

OWN_FILESYSTEMS = ("ssd", "hdd")


@dataclass
class ContainersLab(Lab):
    """An instance with containers, as its file names them."""

    containers: dict[str, Path] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.state.parent / f"{self.name}.toml"

    def write_config(self) -> None:
        lines = ["[instance]", f'name = "{self.name}"', f'state = "{self.state}"', "[containers]"]
        lines += [f'{name} = "{path}"' for name, path in self.containers.items()]
        self.config.write_text("\n".join(lines) + "\n")

    def try_mount(self) -> Done:
        self.write_config()
        return self.csfs("mount", "--config", self.config, self.mountpoint, *self.options)

    def remount(self) -> None:
        self.umount().ok()
        self.mount()


@pytest.fixture
def places(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """The backing directories: each of the first two is a filesystem, the third is on the disk."""
    found = {name: tmp_path / "backing" / name for name in (*OWN_FILESYSTEMS, "disk")}
    for path in found.values():
        path.mkdir(parents=True)
    for name in OWN_FILESYSTEMS:
        mount_filesystem(found[name])
    yield found
    for name in OWN_FILESYSTEMS:
        while os.path.ismount(found[name]):
            subprocess.run(["umount", "-l", found[name]], check=True)


def mount_filesystem(path: Path) -> None:
    """A new one, the first files of which have the same inode numbers each time."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,mode=755", "none", path], check=True)


@pytest.fixture
def lab(tmp_path: Path, places: dict[str, Path]) -> Iterator[ContainersLab]:
    for name in ("lab1", "state"):
        (tmp_path / name).mkdir()
    made = ContainersLab("lab1", tmp_path / "backing", tmp_path / "lab1", tmp_path / "state")
    made.containers = dict(places)
    yield made.mount()
    made.take_down()
    made.check_traces()


def create(lab: Lab, *paths: str) -> None:
    for path in paths:
        lab.run(f"mkdir {path} && touch {path}/cs.lock").ok()


def number(lab: Lab, path: str) -> str:
    return lab.attribute(path, "uid")


# -- what lies at the top -------------------------------------------------------------------------------


def test_the_top_is_csfss_own(lab: ContainersLab) -> None:
    assert sorted(os.listdir(lab.mountpoint)) == ["disk", "hdd", "ssd"]
    assert sorted(os.listdir(lab / ".csfs")) == ["history", "metrics", "projects", "refusals", "status.json"]
    lab.run("echo x > ssd/file").ok()
    for command in (
        "mkdir other",
        "echo x > other",
        "ln -s ssd other",
        "rmdir hdd",
        "mv hdd other",
        "mv -T ssd hdd",
        "mv ssd/file .",
        "rm -r .csfs",
        "chmod 700 .",
        "setfattr -n user.x -v 1 .",
    ):
        lab.run(command).refused("Operation not permitted")
        why = lab.why("")
        assert "lie its containers" in why or "made by csfs" in why, command
    assert sorted(os.listdir(lab.mountpoint)) == ["disk", "hdd", "ssd"]
    assert os.listdir(lab / "ssd") == ["file"]


def test_what_csfs_keeps_on_each_storage_is_hidden(lab: ContainersLab) -> None:
    for name, path in lab.containers.items():
        assert sorted(os.listdir(path / ".csfs")) == ["sessions", "storage"]
        assert os.listdir(lab / name) == []
        assert not (lab / name / ".csfs").exists()
        lab.run(f"mkdir {name}/.csfs").refused("Operation not permitted")
    storages = {(path / ".csfs/storage").read_text() for path in lab.containers.values()}
    assert len(storages) == 3


def test_each_has_its_own_room_and_io(lab: ContainersLab) -> None:
    if kernel._module is None:
        pytest.skip("needs the C module")
    for name, path in lab.containers.items():
        assert os.statvfs(lab / name).f_blocks == os.statvfs(path).f_blocks
    both = sum(os.statvfs(path).f_blocks * os.statvfs(path).f_frsize for path in lab.containers.values())
    assert os.statvfs(lab.mountpoint).f_blocks == both // 4096
    found = lab.status["containers"]
    assert isinstance(found, list)
    shown = {each["name"]: (each["backing"], each["io"], each["away"]) for each in found}
    assert shown == {name: (str(path), "inline", "") for name, path in lab.containers.items()}
    said = lab.csfs("status", lab.mountpoint).ok().out
    for name, path in lab.containers.items():
        assert f"{lab / name} is {path}, passthrough " in said
        for line in (
            f'csfs_io_mode{{container="{name}",mode="inline"}} 1',
            f'csfs_heartbeat_late{{container="{name}"}} 0',
            f'csfs_container_away{{container="{name}"}} 0',
        ):
            assert f"\n{line}\n" in (lab / ".csfs/metrics").read_text()


# -- projects -------------------------------------------------------------------------------------------


def test_the_same_inode_numbers_are_not_mixed_up(lab: ContainersLab) -> None:
    create(lab, "ssd/CS-a", "hdd/CS-a", "disk/CS-a")
    ssd, hdd = (lab.containers[name] / "CS-a" for name in OWN_FILESYSTEMS)
    assert ssd.stat().st_ino == hdd.stat().st_ino
    assert len({(lab / name / "CS-a").stat().st_ino for name in lab.containers}) == 3
    assert [number(lab, f"{name}/CS-a") for name in lab.containers] == ["P1", "P2", "P3"]
    lab.run("echo one > ssd/CS-a/f; echo two > hdd/CS-a/f").ok()
    assert (ssd / "f").stat().st_ino == (hdd / "f").stat().st_ino
    assert lab.run("cat ssd/CS-a/f hdd/CS-a/f").ok().out == "one\ntwo\n"
    with (lab / "ssd/CS-a/f").open("a"):
        lab.run("rm ssd/CS-a/cs.lock").refused("busy")
        lab.run("rm hdd/CS-a/cs.lock").ok()
    # Whoever holds the one project open is no sweeper in the other.
    lab.run("exec 9< ssd/CS-a; rm disk/CS-a/cs.lock; touch hdd/CS-a/g; rm hdd/CS-a/g").ok()
    lab.remount()
    states = [lab.state_of(f"{name}/CS-a") for name in lab.containers]
    assert states == ["attached", "detached", "detached"]
    assert lab.run("cat ssd/CS-a/f hdd/CS-a/f").ok().out == "one\ntwo\n"


def test_files_are_copied_from_one_to_another(lab: ContainersLab) -> None:
    lab.run("echo x > ssd/f; ln ssd/f hdd/f").refused("cross-device")
    with pytest.raises(OSError) as caught:
        os.rename(lab / "ssd/f", lab / "hdd/f")
    assert caught.value.errno == errno.EXDEV
    assert "one container to another" in lab.why("ssd/f")
    lab.run("mv ssd/f hdd/f && cat hdd/f").ok()
    assert not (lab.containers["ssd"] / "f").exists()
    assert (lab.containers["hdd"] / "f").read_text() == "x\n"


def test_two_on_one_filesystem_are_two_all_the_same(lab: ContainersLab, tmp_path: Path) -> None:
    lab.umount().ok()
    lab.containers = {name: lab.containers["disk"] / name for name in ("one", "two")}
    for path in lab.containers.values():
        path.mkdir()
    lab.mount()
    create(lab, "one/CS-a", "two/CS-b")
    lab.run("echo x > one/f; ln one/f two/f").refused("cross-device")
    lab.run("mv one/f two/f").ok()
    assert (lab.containers["two"] / "f").read_text() == "x\n"
    # Behind our back it is one rename, and the directory is the same: the owner follows.
    os.rename(lab.containers["one"] / "CS-a", lab.containers["two"] / "CS-a")
    wait_for(lambda: lab.state_of("two/CS-a") == "attached", "the project is found where it is now")
    assert json.loads((lab / ".csfs/projects/P1/record.json").read_text())["path"] == "two/CS-a"


def test_an_archived_project_moves_and_is_the_same(lab: ContainersLab) -> None:
    create(lab, "ssd/CS-a")
    lab.run("echo x > ssd/CS-a/f && mv ssd/CS-a hdd/CS-b").refused("Operation not permitted")
    lab.run("rm -r hdd/CS-b").ok()
    assert lab.state_of("ssd/CS-a") == "attached"
    lab.run("chmod a-w ssd/CS-a && mv ssd/CS-a hdd/CS-b && chmod u+w hdd/CS-b").ok()
    assert not (lab.containers["ssd"] / "CS-a").exists()
    assert (lab.state_of("hdd/CS-b"), number(lab, "hdd/CS-b")) == ("attached", "P1")
    assert os.readlink(lab / ".csfs/projects/P1/directory") == "../../../hdd/CS-b"
    assert (lab / ".csfs/projects/P1/directory/f").read_text() == "x\n"
    lab.run("mkdir -p hdd/group && mv hdd/CS-b hdd/group/CS-c").ok()
    assert (lab.state_of("hdd/group/CS-c"), number(lab, "hdd/group/CS-c")) == ("attached", "P1")


def test_csfs_move_copies_from_one_to_another(lab: ContainersLab) -> None:
    create(lab, "ssd/CS-a")
    lab.run("echo x > ssd/CS-a/f").ok()
    lab.csfs("move", lab / "ssd/CS-a", lab / "hdd").ok()
    assert os.listdir(lab / "ssd") == []
    assert os.listdir(lab / "hdd") == ["CS-a"]
    assert (lab.state_of("hdd/CS-a"), number(lab, "hdd/CS-a")) == ("attached", "P1")
    assert (lab.containers["hdd"] / "CS-a/f").read_text() == "x\n"
    lab.csfs("move", lab / "hdd/CS-a", lab.mountpoint).refused("lie its containers")
    assert lab.state_of("hdd/CS-a") == "attached"


def test_csfs_move_and_clone_take_paths_of_the_backing_directories(
    lab: ContainersLab, tmp_path: Path
) -> None:
    """Also of one that is named through a symlink; the mount that has the project is meant."""
    (tmp_path / "fast").symlink_to(lab.containers["ssd"])
    lab.umount().ok()
    lab.containers["ssd"] = tmp_path / "fast"
    lab.mount()
    (tmp_path / "lab2").mkdir()
    other = Lab("lab2", lab.containers["hdd"], tmp_path / "lab2", lab.state)
    other.mount()
    try:
        create(lab, "ssd/CS-a")
        lab.run("echo x > ssd/CS-a/f && mkdir hdd/done").ok()
        lab.csfs("move", tmp_path / "fast/CS-a", lab.containers["hdd"] / "done").ok()
        assert os.listdir(lab / "ssd") == []
        assert (lab.state_of("hdd/done/CS-a"), number(lab, "hdd/done/CS-a")) == ("attached", "P1")
        moved = lab.containers["hdd"] / "done/CS-a"
        inode = moved.stat().st_ino
        lab.csfs("move", moved, lab.containers["hdd"] / "CS-b").ok()
        assert (lab.containers["hdd"] / "CS-b").stat().st_ino == inode
        assert lab.state_of("hdd/CS-b") == "attached"
        wait_for(lambda: other.state_of("CS-b") == "foreign", "the owner is seen")
        lab.csfs("clone", lab.containers["hdd"] / "CS-b", lab.containers["disk"]).ok()
        assert lab.state_of("disk/CS-b") == "detached"
        assert (lab / "disk/CS-b/f").read_text() == "x\n"
    finally:
        other.take_down()


def test_a_clone_shares_its_blocks_within_and_between_containers(lab: ContainersLab, tmp_path: Path) -> None:
    """Two containers on one filesystem that can, beside others."""
    image, disk = tmp_path / "image", tmp_path / "xfs"
    image.touch()
    os.truncate(image, 400 << 20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    disk.mkdir()
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    try:
        lab.umount().ok()
        for name in ("one", "two"):
            (disk / name).mkdir()
            lab.containers[name] = disk / name
        lab.mount()
        create(lab, "one/CS-a")
        data = os.urandom(1 << 20) * 60
        (lab / "one/CS-a/large").write_bytes(data)
        os.sync()
        room = os.statvfs(disk).f_bfree
        lab.csfs("clone", lab / "one/CS-a", lab / "one/CS-b").ok()
        lab.csfs("clone", disk / "one/CS-a", disk / "two").ok()
        taken = (room - os.statvfs(disk).f_bfree) * os.statvfs(disk).f_bsize
        assert taken < 20 << 20
        assert (lab / "one/CS-b/large").read_bytes() == data
        assert (lab / "two/CS-a/large").read_bytes() == data
        lab.csfs("clone", lab / "one/CS-a", lab / "disk/CS-a").ok()
        assert (lab / "disk/CS-a/large").read_bytes() == data
    finally:
        lab.umount().ok()
        subprocess.run(["umount", "-l", disk], check=True)


def test_csfs_move_to_an_instance_that_has_the_same_storage_copies_nothing(
    lab: ContainersLab, tmp_path: Path
) -> None:
    (tmp_path / "lab2").mkdir()
    other = Lab("lab2", lab.containers["hdd"], tmp_path / "lab2", lab.state)
    other.mount()
    try:
        create(lab, "hdd/CS-a")
        before = (lab.containers["hdd"] / "CS-a").stat().st_ino
        lab.csfs("move", lab / "hdd/CS-a", other / "CS-a").ok()
        assert (lab.containers["hdd"] / "CS-a").stat().st_ino == before
        assert (other.state_of("CS-a"), lab.state_of("hdd/CS-a")) == ("attached", "foreign")
        lab.csfs("move", other / "CS-a", lab / "hdd/CS-b").ok()
        assert (lab.containers["hdd"] / "CS-b").stat().st_ino == before
        assert lab.state_of("hdd/CS-b") == "attached"
    finally:
        other.take_down()


def test_after_a_crash_all_is_as_it_was(lab: ContainersLab) -> None:
    create(lab, "ssd/CS-a", "hdd/CS-a")
    lab.run("mkdir hdd/CS-a/J1 && chmod a-w ssd/CS-a").ok()
    lab.kill()
    (lab.containers["hdd"] / "CS-a/J1/job.json").unlink()
    lab.mount()
    assert [lab.state_of(f"{name}/CS-a") for name in OWN_FILESYSTEMS] == ["archived", "attached"]
    assert (lab / "hdd/CS-a/J1/job.json").exists()


# -- what is not there ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["unmounted", "removed"])
def test_one_that_is_away_comes_back(lab: ContainersLab, how: str) -> None:
    lab.expected_in_log += ["is away"]
    create(lab, "ssd/CS-a", "hdd/CS-b")
    lab.umount().ok()
    hdd = lab.containers["hdd"]
    kept = hdd.with_name("kept")
    kept.mkdir()
    subprocess.run(["mount", "--bind", hdd, kept], check=True)
    subprocess.run(["umount", hdd], check=True)
    try:
        if how == "removed":
            hdd.rmdir()
        lab.mount()
        assert lab.state_of("ssd/CS-a") == "attached"
        assert sorted(os.listdir(lab.mountpoint)) == ["disk", "hdd", "ssd"]
        with pytest.raises(OSError) as caught:
            os.listdir(lab / "hdd")
        assert caught.value.errno == errno.ENODEV
        lab.run("mkdir hdd/x").refused("No such device")
        lab.run("stat hdd/CS-b").refused("No such device")
        why = lab.why("hdd")
        assert f"is a container that is away: {hdd}" in why
        assert "mounted?" in why or "No such file" in why
        told = lab.csfs("status", lab.mountpoint).refused("needs attention", f"{lab / 'hdd'} is away: {hdd}")
        assert told.code == 3
        metrics = (lab / ".csfs/metrics").read_text()
        assert '\ncsfs_container_away{container="hdd"} 1\n' in metrics
        assert 'csfs_heartbeat_late{container="hdd"}' not in metrics
        listed = json.loads(lab.csfs("ls", "--all", "--json", lab.mountpoint).ok().out)
        assert [(each["uid"], each["away"]) for each in listed] == [("P1", False), ("P2", True)]
        record = json.loads((lab / ".csfs/projects/P2/record.json").read_text())
        assert (record["state"], record["path"]) == ("attached", "hdd/CS-b")
        assert not hdd.exists() or os.listdir(hdd) == []
        lab.umount().ok()
    finally:
        hdd.mkdir(exist_ok=True)
        subprocess.run(["mount", "--bind", kept, hdd], check=True)
        subprocess.run(["umount", kept], check=True)
        kept.rmdir()
    lab.mount()
    assert (lab.state_of("hdd/CS-b"), number(lab, "hdd/CS-b")) == ("attached", "P2")
    lab.run("touch hdd/CS-b/f").ok()


def test_nothing_is_mounted_where_all_are_away(lab: ContainersLab) -> None:
    lab.umount().ok()
    lab.containers = {"ssd": lab.backing / "one", "hdd": lab.backing / "two"}
    lab.try_mount().refused("one cannot be mounted: No such file", "two cannot be mounted: No such file")


def test_one_that_is_not_named_any_more_keeps_its_projects(lab: ContainersLab) -> None:
    lab.expected_in_log += ["is not in the configuration"]
    create(lab, "ssd/CS-a", "hdd/CS-b")
    hdd = lab.containers.pop("hdd")
    lab.remount()
    assert sorted(os.listdir(lab.mountpoint)) == ["disk", "ssd"]
    assert lab.state_of("ssd/CS-a") == "attached"
    assert json.loads((lab / ".csfs/projects/P2/record.json").read_text())["state"] == "attached"
    create(lab, "ssd/CS-c")
    assert number(lab, "ssd/CS-c") == "P3"
    lab.containers["hdd"] = hdd
    lab.remount()
    assert number(lab, "hdd/CS-b") == "P2"


# -- what is refused ------------------------------------------------------------------------------------


def test_another_name_is_refused(lab: ContainersLab) -> None:
    create(lab, "ssd/CS-a")
    lab.umount().ok()
    original = dict(lab.containers)
    lab.containers["fast"] = lab.containers.pop("ssd")
    lab.try_mount().refused("knows as ssd, with 1 projects", "call it ssd")
    lab.containers = {**original, "ssd": original["hdd"], "hdd": original["ssd"]}
    lab.try_mount().refused("call it ssd")
    lab.containers = {"disk": original["disk"], "nvme": original["hdd"], "ssd": original["ssd"]}
    lab.mount()
    assert lab.state_of("ssd/CS-a") == "attached"
    assert sorted(os.listdir(lab.mountpoint)) == ["disk", "nvme", "ssd"]


def test_a_copy_of_a_storage_is_refused(lab: ContainersLab) -> None:
    create(lab, "ssd/CS-a")
    lab.umount().ok()
    shutil.rmtree(lab.containers["disk"] / ".csfs")
    shutil.copytree(lab.containers["ssd"], lab.containers["disk"], dirs_exist_ok=True)
    lab.try_mount().refused("disk", "says that it is that of ssd", "remove .csfs")
    shutil.rmtree(lab.containers["disk"] / ".csfs")
    lab.mount()
    assert [lab.state_of(f"{name}/CS-a") for name in ("ssd", "disk")] == ["attached", "detached"]


def test_with_a_config_and_without(lab: ContainersLab) -> None:
    create(lab, "ssd/CS-a")
    lab.umount().ok()
    plain = ("--instance", "lab1", "--state", lab.state)
    ssd = lab.containers["ssd"]
    lab.csfs("mount", ssd, lab.mountpoint, *plain).refused(
        "1 projects in containers", "csfs mount FILE MOUNTPOINT"
    )
    lab.csfs("check", ssd, *plain).refused("1 projects in containers", "csfs mount FILE MOUNTPOINT")
    lab.mount()
    assert lab.state_of("ssd/CS-a") == "attached"
    lab.umount().ok()
    single = ("--instance", "lab2", "--state", lab.state)
    lab.csfs("mount", lab.containers["hdd"], lab.mountpoint, *single).ok()
    create(lab, "CS-b")
    lab.umount().ok()
    lab.name = "lab2"
    lab.try_mount().refused("1 projects in one backing directory", "mount that directory itself")
    lab.csfs("mount", lab.containers["hdd"], lab.mountpoint, *single).ok()
    assert lab.state_of("CS-b") == "attached"


@pytest.mark.parametrize(
    ("inner", "said"), [("ssd", "are the same directory"), ("ssd/sub", "lies inside the container ssd")]
)
def test_containers_that_overlap(lab: ContainersLab, inner: str, said: str) -> None:
    lab.umount().ok()
    (lab.containers["ssd"] / "sub").mkdir()
    lab.containers["other"] = lab.backing / inner
    lab.try_mount().refused(said)


def test_what_does_not_go_together(lab: ContainersLab) -> None:
    lab.umount().ok()
    lab.csfs("mount", lab.config).refused("Missing argument 'MOUNTPOINT'")
    lab.csfs("mount", lab.config, "").refused("MOUNTPOINT is empty")
    lab.csfs("mount", "", lab.mountpoint, "--instance", "lab1").refused("BACKING is empty")
    other = lab.csfs("mount", lab.config, lab.mountpoint, "--instance", "lab2")
    assert other.refused("is for the instance lab1, not for lab2").code == 2
    lab.csfs("mount", lab.backing, lab.mountpoint).refused("is a directory", "--instance NAME")
    lab.csfs("mount", lab.backing / "c.toml", lab.mountpoint).refused("is not there", "--instance NAME")
    lab.config.write_text(lab.config.read_text() + "[more]\n")
    lab.csfs("mount", lab.config, lab.mountpoint).refused("unknown field `more`", "[containers]")


# -- the other commands ---------------------------------------------------------------------------------


def test_check_knows_each(lab: ContainersLab) -> None:
    create(lab, "ssd/CS-a", "hdd/CS-b")
    lab.umount().ok()
    assert "2 projects" in lab.csfs("check", lab.config).ok().out
    (lab.containers["hdd"] / "CS-b/project.json").write_text("{}")
    found = lab.csfs("check", lab.config).refused("document-differs P2 hdd/CS-b/project.json")
    assert "1 error" in found.out
    assert "1 project," in lab.csfs("check", lab.config, "P1").ok().out
    lab.csfs("check", lab.config, "hdd/CS-b").refused("P2 hdd/CS-b/project.json")
    lab.csfs("check", lab.config, lab.containers["hdd"] / "CS-b").refused("P2 hdd/CS-b/project.json")
    lab.csfs("check", lab.config, "usb/CS-b").refused("there is no project usb/CS-b")
    assert "1 repaired" in lab.csfs("check", lab.config, "--repair").ok().out
    lab.containers["hdd"] = lab.backing / "nowhere"
    lab.write_config()
    lab.csfs("check", lab.config).refused("unreadable P2 hdd/CS-b", "nowhere is not there")


def test_recover_finds_the_projects_of_all(lab: ContainersLab) -> None:
    create(lab, "ssd/CS-a", "hdd/CS-b")
    lab.run("chmod a-w ssd/CS-a").ok()
    lab.umount().ok()
    shutil.rmtree(lab.state / "lab1/store")
    hdd = lab.containers["hdd"]
    lab.containers["hdd"] = lab.backing / "nowhere"
    lab.write_config()
    lab.csfs("recover", lab.config).refused("nowhere cannot be read", "would be missing")
    lab.containers["hdd"] = hdd
    lab.write_config()
    found = lab.csfs("recover", lab.config).ok().out
    assert "P1 ssd/CS-a: archived" in found
    assert "P2 hdd/CS-b: attached" in found
    lab.mount()
    assert [lab.state_of(path) for path in ("ssd/CS-a", "hdd/CS-b")] == ["archived", "attached"]
    create(lab, "disk/CS-c")
    assert number(lab, "disk/CS-c") == "P3"
    lab.csfs("mount", hdd, lab.backing, "--instance", "lab1", "--state", lab.state).refused("mounted")


def test_another_instance_is_seen_and_rescued_from_in_its_container(
    lab: ContainersLab, tmp_path: Path
) -> None:
    lab.umount().ok()
    lab.options = ("-o", "takeover=2")
    lab.expected_in_log += ["rescue of"]
    lab.mount()
    (tmp_path / "lab2").mkdir()
    other = Lab("lab2", lab.containers["hdd"], tmp_path / "lab2", lab.state, options=("-o", "takeover=2"))
    other.mount()
    try:
        create(other, "CS-x")
        assert lab.state_of("hdd/CS-x") == "foreign"
        lab.run("touch hdd/CS-x/f").refused("Read-only")
        other.kill()

        def life(container: str) -> list[str]:
            found = lab.status["containers"]
            assert isinstance(found, list)
            [sessions] = [each["sessions"] for each in found if each["name"] == container]
            return [each["life"] for each in sessions]

        wait_for(lambda: life("hdd") == ["dead"], "the heartbeat of the other has stopped")
        assert life("ssd") == []
        lab.csfs("rescue", "--attach", lab / "hdd/CS-x").ok()
        assert lab.state_of("hdd/CS-x") == "attached"
        assert "shares its storage hdd with lab2" in lab.csfs("status", lab.mountpoint).ok().out
    finally:
        other.take_down()


def test_a_storage_without_a_name_is_said_with_its_container(lab: ContainersLab) -> None:
    lab.umount().ok()
    storage = lab.containers["hdd"] / ".csfs/storage"
    storage.unlink()
    storage.mkdir()
    said = lab.try_mount().ok().err
    assert "the storage of the container hdd cannot be given a name" in said
    assert "ssd" not in said


def test_what_ls_advises_without_a_project_can_be_done(lab: ContainersLab) -> None:
    lab.umount().ok()
    # The first of the file is away: nothing can be made there.
    lab.containers = {"usb": lab.backing / "nowhere", **lab.containers}
    lab.mount()
    advised = lab.csfs("ls", lab.mountpoint).ok().out.rpartition("csfs ")[2].split()
    assert advised == ["create", str(lab / "ssd"), "TITLE"]
    lab.csfs(*advised).ok()
    assert lab.state_of("ssd/CS-title") == "attached"
