"""The studies: each a small declaration over the one path."""

from offmap.studies import digits

__all__ = ["digits"]
