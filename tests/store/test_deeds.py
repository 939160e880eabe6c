"""What the store keeps of the actions that were done."""

from pathlib import Path

import pytest

from csfs.store import records
from csfs.store.store import Change, Store, View


def deed(number: int) -> records.Deed:
    return records.Deed(at="now", action="attach", number=number, title="", path="CS-a", host="node", uid=0)


async def test_the_last_ones_are_kept_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "DEEDS_KEPT", 300)
    store = Store.open(tmp_path / "store", "lab1")

    def work(change: Change) -> None:
        for number in range(700):
            change.put_deed(deed(number))

    await store.write(work)
    assert [each.number for each in store.read(View.deeds)] == list(range(400, 700))
    store.close()
    store = Store.open(tmp_path / "store", "lab1")
    await store.write(lambda change: change.put_deed(deed(700)))
    assert [each.number for each in store.read(View.deeds)] == list(range(401, 701))
    assert store.read(View.instance).name == "lab1"
    store.close()


async def test_an_action_that_fails_leaves_none(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", "lab1")

    def work(change: Change) -> None:
        change.put_deed(deed(1))
        raise OSError("cut short")

    with pytest.raises(OSError, match="cut short"):
        await store.write(work)
    assert store.read(View.deeds) == []
    store.close()
