"""How fast csfs is, beside the backing filesystem itself and other passthrough filesystems."""
