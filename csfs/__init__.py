"""csfs: a filesystem in which a CryoSPARC project is attached to exactly one instance."""

__version__ = "0.1.0"
