"""The clock by which csfs tells how old something is: it goes on while the machine is suspended."""

import time
from functools import partial

seconds = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
"""Seconds since some moment in the past. `time.monotonic` stands still in a suspended machine, and an
owner that slept would believe for too long what it saw before."""
