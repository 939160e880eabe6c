"""What `scripts/soak` does: a stress of the data, checked against a model, and a mixed load, watched."""
