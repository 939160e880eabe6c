"""The backing directory: descriptors, the lock file, exported documents, manifests."""
