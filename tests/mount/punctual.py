"""The daemon with one more task: it measures by how much its own timer is late.

`python -m tests.mount.punctual BACKING MOUNTPOINT STATE`. Prints `ready`, and at the end the worst lateness
in seconds and the number of times that the timer went off.
"""

import sys
from pathlib import Path

import trio

from csfs.lifecycle import documents
from csfs.mount import daemon
from csfs.mount.options import MountOptions

TICK_SECONDS = 0.01


def main() -> None:
    backing, mountpoint, state = sys.argv[1:]
    late = [0.0]

    async def work_off(instance: object) -> None:
        while True:
            due = trio.current_time() + TICK_SECONDS
            await trio.sleep_until(due)
            late.append(trio.current_time() - due)

    documents.work_off = work_off  # type: ignore[assignment]
    daemon.serve(MountOptions(backing, mountpoint, "lab1", Path(state)), lambda: print("ready", flush=True))
    late.sort()
    print(late[-1], late[-len(late) // 100], len(late), flush=True)


if __name__ == "__main__":
    main()
