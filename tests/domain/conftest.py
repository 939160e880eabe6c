"""Settings for property-based tests: a busy machine is no failure."""

from hypothesis import settings

settings.register_profile("csfs", deadline=None)
settings.load_profile("csfs")
