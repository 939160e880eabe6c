"""What is true with no I/O: locks, states, job statuses, documents, names, refusals."""
