"""What `scripts/soak` does: a stress of the data against a model, a mixed load, watched, moves, killed."""
