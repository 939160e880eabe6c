"""Two instances want the same project at the same moment."""

import json
import subprocess
from pathlib import Path

from tests.mount.lab import Lab

ROUNDS = 100
WORKERS = 4

WORKER = """
import os, sys
path = sys.argv[1]
for line in sys.stdin:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.utime(fd)
        os.close(fd)
        print("took", flush=True)
    except OSError as error:
        print(error.errno, flush=True)
"""


def test_one_instance_wins_each_round(sample: Path, labs: tuple[Lab, Lab]) -> None:
    """Eight processes of two instances touch the lock of a detached project, again and again."""
    workers = [
        subprocess.Popen(
            ["python3", "-c", WORKER, str(lab / "CS-a/cs.lock")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for lab in labs
        for _ in range(WORKERS)
    ]
    wins = {lab.name: 0 for lab in labs}
    try:
        for round_number in range(ROUNDS):
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
            said = [worker.stdout.readline().strip() for worker in workers if worker.stdout is not None]
            owner = json.loads((sample / "cs.lock").read_text())["instance_name"]
            winner, loser = labs if owner == labs[0].name else labs[::-1]
            wins[owner] += 1
            took = {lab.name: said[n * WORKERS : (n + 1) * WORKERS] for n, lab in enumerate(labs)}
            assert "took" in took[winner.name], (round_number, took)
            assert "took" not in took[loser.name], (round_number, took)
            assert winner.state_of("CS-a") == "attached"
            assert loser.state_of("CS-a") == "foreign"
            uid = winner.attribute("CS-a", "uid")
            for place in (winner / "CS-a", sample):
                assert json.loads((place / "project.json").read_text())["uid"] == uid
            held = [
                record.parent.name
                for record in (winner / ".csfs/projects").glob("*/record.json")
                if json.loads(record.read_text())["state"] == "attached"
            ]
            assert held == [uid]
            assert not any(
                json.loads(record.read_text())["state"] == "attached"
                for record in (loser / ".csfs/projects").glob("*/record.json")
            )
            (winner / "CS-a/cs.lock").unlink()
            assert not (sample / "cs.lock").exists()
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
    assert sum(wins.values()) == ROUNDS
    assert min(wins.values()) > 0, wins
