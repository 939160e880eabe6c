"""Documents: read from the store, edited by any program, exported, never half written."""

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from tests.mount.conftest import LabMaker
from tests.mount.lab import Lab, wait_for

SET_TITLE = "import json,sys; d=json.load(sys.stdin); d['title']='new title'; print(json.dumps(d))"

EDITS = {
    "sed -i": 'sed -i \'s/"title": "[^"]*"/"title": "new title"/\' CS-a/project.json',
    "redirect": f'python3 -c "{SET_TITLE}" < CS-a/project.json > x && cat x > CS-a/project.json; rm x',
    "temporary and mv": (f'cd CS-a && python3 -c "{SET_TITLE}" < project.json > .p && mv .p project.json'),
    "vim": (
        'vim.tiny -u NONE -es -c \'set backupcopy=no\' -c \'%s/"title": "[^"]*"/"title": "new title"/\''
        " -c wq CS-a/project.json"
    ),
    "jq and mv": "cd CS-a && jq '.title = \"new title\"' project.json > tmp && mv tmp project.json",
    "jq and sponge": "cd CS-a && jq '.title = \"new title\"' project.json | sponge project.json",
    "cp": f'python3 -c "{SET_TITLE}" < CS-a/project.json > x && cp x CS-a/project.json; rm x',
    "rsync": f'python3 -c "{SET_TITLE}" < CS-a/project.json > x && rsync x CS-a/project.json; rm x',
    "rsync --inplace": (
        f'python3 -c "{SET_TITLE}" < CS-a/project.json > x && rsync --inplace x CS-a/project.json; rm x'
    ),
    "r+": (
        "python3 -c \"import json; f=open('CS-a/project.json','r+'); d=json.load(f);"
        " d['title']='new title'; f.seek(0); json.dump(d,f); f.truncate(); f.close()\""
    ),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_every_way_to_edit_takes_effect_and_is_exported(sample: Path, lab: Lab, edit: str) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    lab.run(edit).ok()
    for place in (lab / "CS-a", sample):
        assert json.loads((place / "project.json").read_text())["title"] == "new title"
    assert lab.attribute("CS-a", "title") == "new title"
    assert lab.run("getfattr --only-values -n user.csfs.exported CS-a/project.json").ok().out == "yes"
    assert not [name for name in os.listdir(lab / "CS-a") if name.startswith(".")]


SPOILS = {
    "sed -i": "sed -i 's/^{/[/' CS-a/project.json",
    "redirect": "echo '{\"uid\": ' > x; cat x > CS-a/project.json",
    "append": "echo rubbish > x && cat x >> CS-a/project.json",
    "mv": "echo '[]' > CS-a/.p && mv CS-a/.p CS-a/project.json",
    "cp": "echo '{}x' > x && cp x CS-a/project.json",
    "rsync --inplace": "echo '{}x' > x && rsync --inplace x CS-a/project.json",
    "truncate": "truncate -s 10 CS-a/project.json",
    "identity": 'sed -i \'s/"uid": "P1"/"uid": "P7"/\' CS-a/project.json',
    "identity number": 'sed -i \'s/"archived": false/"archived": true/\' CS-a/project.json',
    "sponge": "echo '{' | sponge CS-a/project.json",
    "vim": "vim.tiny -u NONE -es -c '1s/{/[/' -c wq CS-a/project.json",
    "not utf-8": 'printf \'{"uid": "\\xff"}\' > x && cp x CS-a/project.json',
    "fsync": (
        "python3 -c \"import os; f=open('CS-a/project.json','r+'); f.truncate(5); os.fsync(f.fileno())\""
    ),
}


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS.keys())
def test_a_bad_document_is_refused_and_the_old_one_stays(sample: Path, lab: Lab, spoil: str) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    before = (lab / "CS-a/project.json").read_bytes()
    done = lab.run(spoil).refused()
    if "vim" not in spoil:  # which says so on its screen only
        assert "Invalid argument" in done.err or "to a subdirectory of itself" in done.err  # mv's EINVAL
    assert (lab / "CS-a/project.json").read_bytes() == before
    assert (sample / "project.json").read_bytes() == before
    assert lab.refusals()[-1]["rule"] in ("BAD_DOCUMENT", "IDENTITY_KEY")
    assert "project.json" in lab.why("CS-a/project.json")


def test_what_csfs_need_not_change_stays_byte_for_byte(sample: Path, lab: Lab) -> None:
    before = (sample / "J9/job.json").read_text()
    assert "Infinity" in before
    assert not before.endswith("\n")
    lab.run("touch CS-a/cs.lock").ok()
    number = json.loads(before)["project_uid_num"]
    expected = before.replace(f'"project_uid_num": {number}', '"project_uid_num": 1').replace(
        f'"project_uid": "P{number}"', '"project_uid": "P1"'
    )
    assert (lab / "CS-a/J9/job.json").read_text() == expected
    wait_for(lambda: (sample / "J9/job.json").read_text() == expected, "it is exported")


def test_a_job_document_is_written_back_only_in_the_statuses_of_the_guide(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    live, exported = lab / "CS-a/J12/job.json", sample / "J12/job.json"
    wait_for(lambda: json.loads(exported.read_text())["project_uid"] == "P1", "the import is exported")
    last = "completed"
    statuses = ("building", "queued", "launched", "started", "running", "waiting", "failed", "completed")
    for status in statuses:
        live.write_text(json.dumps({**json.loads(live.read_text()), "status": status}))
        assert json.loads(live.read_text())["status"] == status
        if status in ("building", "queued", "completed"):
            last = status
        assert json.loads(exported.read_text())["status"] == last


def test_readers_see_one_version_or_the_other(sample: Path, lab: Lab) -> None:
    lab.run("touch CS-a/cs.lock").ok()
    path = lab / "CS-a/project.json"
    base = json.loads(path.read_text())
    stop, problems, seen = threading.Event(), [], set()

    def read() -> None:
        while not stop.is_set():
            for place in (path, sample / "project.json"):
                try:
                    document = json.loads(place.read_bytes())
                    assert len(set(document.get("filler", [0]))) == 1
                    seen.add(document.get("filler", [0])[0])
                except (ValueError, AssertionError) as problem:
                    problems.append(problem)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for n in range(40):
        path.write_text(json.dumps({**base, "filler": [n] * (20_000 if n % 2 else 100)}))
    stop.set()
    for reader in readers:
        reader.join()
    assert not problems
    assert len(seen) > 2


def test_times_and_modes_of_documents(sample: Path, lab: Lab) -> None:
    before = (sample / "J9/job.json").stat()
    (sample / "J9/job.json").chmod(0o640)
    lab.run("touch CS-a/cs.lock && touch -d '2020-02-02 02:02:02.25' CS-a/project.json").ok()
    for place in (lab / "CS-a", sample):
        assert (place / "project.json").stat().st_mtime_ns % 10**9 == 250_000_000
    assert (lab / "CS-a/J9/job.json").stat().st_mode & 0o777 == 0o640
    lab.run("chmod 600 CS-a/project.json").ok()
    assert (sample / "project.json").stat().st_mode & 0o777 == 0o600
    assert (lab / "CS-a/J9/job.json").stat().st_mtime_ns > before.st_mtime_ns


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small backing filesystem")
def test_an_export_that_fails_is_shown_and_made_up_for(tmp_path: Path, make_lab: LabMaker) -> None:
    lab = make_lab(mounted=False)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", lab.backing], check=True)
    try:
        lab.mount()
        lab.expected_in_log += ["will be tried again"]
        lab.run("mkdir CS-a && touch CS-a/cs.lock && mkdir CS-a/J1").ok()
        lab.run("head -c 3000000 /dev/zero > CS-a/full").refused("No space left")
        document = {**json.loads((lab / "CS-a/project.json").read_text()), "title": "t" * 100_000}
        (lab / "CS-a/project.json").write_text(json.dumps(document))
        assert json.loads((lab / "CS-a/project.json").read_text()) == document
        exported = "getfattr --only-values -n user.csfs.exported CS-a/project.json"
        assert lab.run(exported).ok().out == "no"
        assert json.loads((lab.backing / "CS-a/project.json").read_text())["title"] == "CS-a"
        assert lab.csfs("status", lab.mountpoint).refused("No space left").code == 3
        assert "not on the backing directory yet" in lab.why("CS-a")
        lab.run("rm CS-a/cs.lock").refused("No space left")
        assert lab.state_of("CS-a") == "attached"
        lab.run("rm CS-a/full").ok()
        wait_for(lambda: lab.run(exported).out == "yes", "the export is made up for")
        assert json.loads((lab.backing / "CS-a/project.json").read_text()) == document
        assert "No space left" not in lab.csfs("status", lab.mountpoint).ok().out
        lab.run("rm CS-a/cs.lock").ok()
        lab.umount().ok()
        lab.check_traces()
    finally:
        if lab.is_mounted():
            lab.take_down()
        subprocess.run(["umount", lab.backing], check=True)


def test_a_directory_from_before_version_4(sample: Path, lab: Lab) -> None:
    """Named after its number, without workspaces.json, prefixes in file names, dates in milliseconds."""
    sample.rename(lab.backing / "P12")
    old = lab.backing / "P12"
    (old / "workspaces.json").unlink()
    (old / "project.json").write_text(
        '{"uid": "P12", "uid_num": 12, "title": "Alt: größer", "created_at": {"$date": 1623285244808},'
        ' "size": 123456789012345678901234567890, "project_dir": "$CRYOSPARC/P12"}'
    )
    (old / "J9/cryosparc_P12_J9_005_volume_map.mrc").write_bytes(b"data")
    lab.run("touch P12/cs.lock").ok()
    text = (lab / "P12/project.json").read_text()
    assert '"created_at": {"$date": 1623285244808}' in text
    assert '"size": 123456789012345678901234567890' in text
    assert lab.attribute("P12", "title") == "Alt: größer"
    assert json.loads(text)["project_dir"] == str(lab / "P12")
    assert [w["uid"] for w in json.loads((lab / "P12/workspaces.json").read_text())] == ["W1"]
    assert (lab / "P12/J9/cryosparc_P12_J9_005_volume_map.mrc").read_bytes() == b"data"
