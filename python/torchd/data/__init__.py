"""Data in memory as files that the daemon reads."""

from .sets import Prepared, prepare

__all__ = ["Prepared", "prepare"]
