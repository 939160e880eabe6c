"""The sample project: a generator, and the data files it fills a directory from."""
