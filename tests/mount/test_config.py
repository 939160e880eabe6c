"""The file that `csfs mount` takes for BACKING: what it may say, and what is said of one that is no use."""

from pathlib import Path

import pytest

from csfs.mount.config import BadConfig, Config, read
from csfs.mount.options import MountOptions

GOOD = """
[instance]
name = "lab1"
state = "/var/lib/other"
[containers]
ssd = "/fast/projects"
hdd = "/bulk/projects"
"""


def test_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(GOOD)
    containers = {"ssd": "/fast/projects", "hdd": "/bulk/projects"}
    assert read(tmp_path / "c.toml") == Config("lab1", Path("/var/lib/other"), containers)


def test_the_state_is_optional(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(GOOD.replace('state = "/var/lib/other"', ""))
    assert read(tmp_path / "c.toml").state is None


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("[instance]", "[instance", "is not TOML.*line 2"),
        ('name = "lab1"', "", "missing required field `name`.*instance"),
        ('name = "lab1"', "name = 7", "Expected `str`, got `int`.*name"),
        (
            'name = "lab1"',
            'name = "lab1"\nnmae = "x"',
            "unknown field `nmae`.*instance.*and, if need be, state",
        ),
        ("[containers]", "[storages]", "`storages`|`containers`"),
        ("[containers]", "[other]\nx = 1\n[containers]", "unknown field `other`"),
        ('"/fast/projects"', "7", "Expected `str`.*containers"),
        ('"/fast/projects"', '"fast/projects"', "containers.ssd is 'fast/projects': give an absolute path"),
        ('"/var/lib/other"', '"other"', "instance.state is 'other': give an absolute path"),
        ("hdd =", "ssd =", "is not TOML.*overwrite"),
        ("ssd =", '".csfs" =', "'.csfs' is no name for a container"),
        ("ssd =", '"a/b" =', "'a/b' is no name for a container"),
        ("ssd =", '"" =', "'' is no name for a container"),
        ('ssd = "/fast/projects"\nhdd = "/bulk/projects"', "", "names none.*without such a file"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, before: str, after: str, said: str) -> None:
    assert before in GOOD
    (tmp_path / "c.toml").write_text(GOOD.replace(before, after))
    with pytest.raises(BadConfig, match=said):
        read(tmp_path / "c.toml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="cannot be read: No such file"):
        read(tmp_path / "c.toml")


def test_one_backing_directory_is_the_case_of_one_container_at_the_root() -> None:
    one = MountOptions("/data", "/mnt", "lab1", Path("/state"))
    assert one.backings == {b"": "/data"}
    assert one.words == "/data --instance lab1 --state /state"
    two = MountOptions("/c.toml", "/mnt", "lab1", Path("/state"), containers={"ssd": "/fast", "hdd": "/bulk"})
    assert two.backings == {b"ssd": "/fast", b"hdd": "/bulk"}
    assert two.words == "/c.toml --state /state"
