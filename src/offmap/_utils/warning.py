"""Warnings that point at the line of the user."""

from __future__ import annotations

import sys
import warnings

# Torch stands between a user who calls a module and this library.
_PASSED_OVER = (f"{__name__.partition('.')[0]}.", "torch.")


def warn_user(message: str, category: type[Warning]) -> None:
    """Warn of something at the line that called this library, however deep this stands in it.

    Python shows a warning of the same words once a line; were the line one of this library, a
    second data set could not be told from the first.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_PASSED_OVER):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
