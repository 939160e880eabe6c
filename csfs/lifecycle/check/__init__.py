"""Check: the store held against the backing directory. It reads, and `repair` mends what it found."""
