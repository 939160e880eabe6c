"""Four instances want the same projects all the time, and their daemons are killed and stopped meanwhile.

`CSFS_RACE_SECONDS` asks for a longer race, `CSFS_RACE_SEED` for another one.
"""

import os
from pathlib import Path

import pytest

from tests.crash.race import Race
from tests.crash.zygote import Zygote

SECONDS = float(os.environ.get("CSFS_RACE_SECONDS", "60"))
SEED = int(os.environ.get("CSFS_RACE_SEED", "1"))

AT_LEAST_IN_A_MINUTE = {
    "calls": 4000,
    "holdings": 100,
    "changes of owner": 40,
    "rescues": 4,
    "kill": 10,
    "stop": 10,
    "open": 400,
    "edit": 100,
    "chmod a-w": 10,
}


@pytest.mark.timeout(SECONDS + 120)
def test_no_two_instances_hold_a_project(
    zygote: Zygote, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    race = Race(zygote, place, instances=4, workers=4, projects=3)
    try:
        race.run(SECONDS, SEED)
        tally = race.tally()
        with capsys.disabled():
            print(f"\n{SECONDS:g} s of racing:", ", ".join(f"{what} {n}" for what, n in tally.items()))
        race.check_history()
        race.check_outcome()
    finally:
        race.close()
    for what, least in AT_LEAST_IN_A_MINUTE.items():
        assert tally[what] >= least * SECONDS / 60, (what, tally)
