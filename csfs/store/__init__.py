"""The instance store: typed records in LMDB, one writer, durable transactions."""
