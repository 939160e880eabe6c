"""The sample project: a generator, and the data files it fills a directory from."""

from pathlib import Path

DATA = Path(__file__).with_name("data")
"""Where the data files are; `NOTICE` among them says where each comes from."""
