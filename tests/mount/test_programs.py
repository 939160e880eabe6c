"""Programs that people use, on a plain directory and in an attached project."""

import array
import itertools
import mmap
import multiprocessing
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.mount.lab import Lab

WITH_ALL = "--xattrs --xattrs-include='*' --acls"
WRITERS = 2
ROWS = 60


@pytest.fixture(params=["plain", "attached"])
def place(request: pytest.FixtureRequest, lab: Lab) -> Path:
    """An empty directory to work in, in a container or in an attached project."""
    (lab / "d").mkdir()
    if request.param == "attached":
        lab.run("touch d/cs.lock && mkdir d/work").ok()
    else:
        (lab / "d/work").mkdir()
    return lab / "d/work"


def bash(place: Path, script: str) -> str:
    """Runs a script of which no command may fail, in a directory; what it prints."""
    words = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"$ {script}\n{done.stdout}{done.stderr}"
    return done.stdout


def needs(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; scripts/test installs them")


def test_git(place: Path) -> None:
    needs("git")
    bash(
        place,
        """
        export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b
        export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        git init -q repository && cd repository
        for n in $(seq 40); do mkdir -p d$((n % 7)); echo $n > d$((n % 7))/f$n; done
        ln -s d1 link && echo x > run && chmod +x run
        git add . && git commit -qm one
        git mv d1 moved && echo more >> run && git commit -qam two
        git checkout -qb side HEAD^ && echo side > side && git add side && git commit -qm side
        git merge -q -m merged master || git merge -q -m merged main
        git gc -q && git fsck --strict
        cd .. && git clone -q repository clone
        diff -r --no-dereference -x .git repository clone
        cd clone && git fsck && git stash list && test -z "$(git status --porcelain)"
        echo change >> run && git stash -q && git stash pop -q && test "$(git status --porcelain)" = " M run"
        """,
    )


def test_make_and_a_compiler(place: Path) -> None:
    needs("gcc", "make")
    (place / "Makefile").write_text(
        "test: program\n\t./program | grep -qx 42\n"
        "program: main.o part.o\n\t$(CC) -o $@ $^\n"
        "%.o: %.c part.h\n\t$(CC) -c $<\n"
        "clean:\n\trm -f *.o program\n"
    )
    (place / "part.h").write_text("int part(void);\n")
    (place / "part.c").write_text('#include "part.h"\nint part(void) { return 42; }\n')
    (place / "main.c").write_text(
        '#include <stdio.h>\n#include "part.h"\nint main(void) { printf("%d\\n", part()); return 0; }\n'
    )
    bash(place, "make -s -j4 test && make -s -q program && make -s clean && make -s test")
    bash(place, "ar rcs lib.a part.o && gcc main.o lib.a -o other && ./other | grep -qx 42")


def _write_rows(path: Path, mode: str, writer: int) -> None:
    connection = sqlite3.connect(path, timeout=30)
    connection.execute(f"pragma journal_mode={mode}")
    connection.execute("pragma synchronous=normal")
    for row in range(ROWS):
        with connection:
            connection.execute("begin immediate")
            (total,) = connection.execute("select count(*) from t").fetchone()
            connection.execute("insert into t values (?, ?, ?)", (writer, row, total))
    connection.close()


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_sqlite(place: Path, mode: str) -> None:
    """Two processes write by turns; each has seen all that was written before."""
    path = place / "data.sqlite"
    connection = sqlite3.connect(path)
    (kept,) = connection.execute(f"pragma journal_mode={mode}").fetchone()
    assert kept == mode
    connection.execute("create table t (writer integer, row integer, before integer)")
    connection.close()
    forking = multiprocessing.get_context("fork")
    writers = [forking.Process(target=_write_rows, args=(path, mode, n)) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    connection = sqlite3.connect(path)
    assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    counted = [before for (before,) in connection.execute("select before from t order by before")]
    connection.close()
    assert counted == list(range(WRITERS * ROWS))


def test_an_array_in_a_mapped_file(place: Path) -> None:
    """What numpy.memmap does: a file of a set size, mapped shared, written here and there, read back."""
    path, count = place / "array", 1 << 18
    with path.open("w+b") as made:
        made.truncate(count * 8)
        with mmap.mmap(made.fileno(), 0) as mapped, memoryview(mapped).cast("d") as numbers:
            for index in range(0, count, 4099):
                numbers[index] = index / 2
            mapped.flush()
    read = array.array("d")
    with path.open("rb") as opened:
        read.fromfile(opened, count)
    assert [read[index] for index in range(0, count, 4099)] == [index / 2 for index in range(0, count, 4099)]
    assert sum(1 for number in read if number) == len(range(4099, count, 4099))
    with path.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        opened.seek(80)
        opened.write(array.array("d", [7.0]).tobytes())
        opened.flush()
        assert array.array("d", mapped[80:88]) == array.array("d", [7.0])


EVERYTHING = r"""
mkdir -p tree/dir/deep tree/setgid && cd tree
echo one > one && ln one dir/hard && ln one dir/deep/harder
ln -s one link && ln -s /nowhere dangling && ln -s .. dir/up
mkfifo fifo && chmod 640 fifo
truncate -s 4M sparse && printf end | dd of=sparse bs=1 seek=2000000 conv=notrunc status=none
printf x > $'odd \n name \xff\x1b' && printf y > '-dash' && printf z > ' space '
setfattr -n user.mine -v value one && setfattr -n user.bin -v 0x00ff dir
setfacl -m u:1234:rw one && setfacl -d -m g:1234:rx dir
chmod 2775 setgid && chmod 1777 dir/deep && chmod 4755 '-dash' && chmod 0 ' space '
chown 1234:4321 link -h && chown 1234:4321 fifo
touch -d '2001-02-03 04:05:06.789' dir/deep one
touch -h -d '1999-01-01 UTC' link
"""


def differences(one: Path, other: Path) -> str:
    """What rsync would still change in `other` to make it as `one` is."""
    words = ["rsync", "-aHAXn", "--delete", "--itemize-changes", f"{one}/", f"{other}/"]
    done = subprocess.run(words, capture_output=True, text=True, errors="replace")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
@pytest.mark.parametrize(
    "copy",
    [
        "rsync -aHAXS {0}/ {1}/",
        "cp -a --sparse=always {0}/. {1}/",
        "cp -a --reflink=auto {0}/. {1}/",
        f"tar {WITH_ALL} -C {{0}} -cf - . | tar {WITH_ALL} -C {{1}} -xpf -",
        f"tar -S {WITH_ALL} -C {{0}} -cf - . | tar {WITH_ALL} -C {{1}} -xpf -",
    ],
)
def test_a_tree_with_everything_in_it(place: Path, tmp_path: Path, copy: str) -> None:
    """Into the mount, within it and out of it again: never anything is different."""
    needs("rsync", "setfattr", "setfacl")
    bash(tmp_path, EVERYTHING)
    trees = [tmp_path / "tree", place / "one", place / "two", tmp_path / "back"]
    for source, target in itertools.pairwise(trees):
        target.mkdir()
        bash(tmp_path, copy.format(source, target))
        assert differences(source, target) == ""
        assert differences(target, source) == ""
    if "S" in copy.split()[1] or "sparse" in copy:
        for tree in trees:
            assert (tree / "sparse").stat().st_blocks * 512 < 1 << 20


def test_a_whole_attached_project(sample: Path, lab: Lab, tmp_path: Path) -> None:
    """Programs that copy see nothing in a project that they could not give to the copy."""
    needs("rsync", "setfattr")
    lab.run("touch CS-a/cs.lock && setfattr -n user.mine -v x CS-a CS-a/J2").ok()
    (tmp_path / "copy").mkdir()
    bash(tmp_path, f"rsync -aHAX {lab / 'CS-a'}/ copy/")
    assert differences(lab / "CS-a", tmp_path / "copy") == ""
    bash(tmp_path, f"tar --xattrs --acls -C {lab / 'CS-a'} -cf - . | tar -C copy --xattrs -xf -")
    assert os.listxattr(tmp_path / "copy") == ["user.mine"]
    assert "user.csfs.state" in os.listxattr(lab / "CS-a")


def test_editors(place: Path) -> None:
    (place / "text").write_text("one\ntwo\nthree\n")
    needs("vim.tiny", "ed", "patch", "perl")
    bash(
        place,
        r"""
        vim.tiny -u NONE -es -c '%s/two/deux/' -c 'set backup writebackup backupcopy=no' -c wq text
        grep -qx deux text && grep -qx two text~ && rm text~
        printf '1s/one/un/\nw\nq\n' | ed -s text && grep -qx un text
        sed -i.orig 's/three/trois/' text && grep -qx three text.orig && grep -qx trois text
        cp text '#text#' && ln -s user@host.1:2 .#text && mv '#text#' text && rm .#text
        diff -u text.orig text > change && test $? -eq 1 || true
        cp text.orig copy && patch -s copy change && cmp copy text
        patch -sR copy change && cmp copy text.orig
        perl -pi -e 's/un/uno/' text && grep -qx uno text
        """,
    )
    assert not list(place.glob(".*.sw?"))


def test_small_tools(place: Path) -> None:
    needs("flock")
    bash(
        place,
        r"""
        echo x > f && chmod 600 f
        install -m 751 f installed && test "$(stat -c %a installed)" = 751
        install -d a/b/c && test -d a/b/c
        made=$(mktemp -d -p . tmp.XXXXXX) && test "$(stat -c %a "$made")" = 700 && rmdir "$made"
        made=$(mktemp -p .) && test ! -s "$made" && rm "$made"
        mkdir -p sub/{1,2,3}/{4,5} && touch sub/{1,2,3}/{4,5}/f
        find sub/1 -delete && test ! -e sub/1 && test "$(find sub -type f | wc -l)" = 4
        dd if=/dev/urandom of=data bs=64k count=10 conv=fsync status=none
        dd if=data of=again bs=4k conv=fsync,notrunc oflag=append status=none && cmp data again
        touch -d '2001-02-03 04:05:06.789 UTC' f && test "$(stat -c %.3Y f)" = 981173106.789
        touch -a -d @5 f && test "$(stat -c '%X %.3Y' f)" = '5 981173106.789'
        touch -r f g && test "$(stat -c %Y g)" = 981173106
        ln -f f h && test f -ef h && ln -sfn sub s && ln -sfn a s && test "$(readlink s)" = a
        cp --reflink=auto data reflinked && cmp data reflinked
        cp -al sub linked && test sub/2/4/f -ef linked/2/4/f
        truncate -s 1M t && fallocate -l 2M t && test "$(stat -c %s t)" = 2097152
        split -b 100k data part. && cat part.* | cmp - data
        sort -o f f && tee -a f < /dev/null && shred -u part.aa && test ! -e part.aa
        (flock -n 9 && ! flock -n f true) 9> f && flock -n f true
        tar -cf x.tar sub && tar -tf x.tar | grep -q sub/2/4/f && gzip -k x.tar && gzip -t x.tar.gz
        mv sub moved && mv -T moved sub && mv -n f g && test -e f
        """,
    )
