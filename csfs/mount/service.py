"""What a service manager is told (sd_notify(3)): that the mount is there, that it ends, that it is alive."""

import os
import socket

import trio


def tell(words: str) -> None:
    """Sends `READY=1` or the like to the service manager, if there is one. Raises OSError."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaker:
        speaker.connect("\0" + address[1:] if address.startswith("@") else address)
        speaker.send(words.encode())


def watchdog_seconds() -> float:
    """How often the service manager wants to hear of this process; 0: never."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    return int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6


async def keep_alive() -> None:
    """Says that the event loop goes round, twice as often as that is wanted: a task of the mount."""
    seconds = watchdog_seconds()
    while seconds:
        tell("WATCHDOG=1")
        await trio.sleep(seconds / 2)
