"""Warnings that point at the line of the user."""

from __future__ import annotations

import sys
import warnings

# Torch is between a user who calls a module and this library.
_PASSED_OVER = (f"{__name__.partition('.')[0]}.", "torch.")


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn at the line that called this library, however deep in it the warning is.

    Python shows the same warning once a line: at a line of this library, that of a second data set
    would not be shown.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PASSED_OVER):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
