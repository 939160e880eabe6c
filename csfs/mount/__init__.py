"""The filesystem: requests come in at `operations`, find their node, and the node answers."""

# First of all: it must be loaded before pyfuse3 is.
from csfs.mount import kernel as kernel
