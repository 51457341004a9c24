"""Whether code runs as it is written."""

from __future__ import annotations

import torch


def is_traced() -> bool:
    """Whether ``torch.compile`` reads the code that asks, to make graphs in which no hook fires.

    Whoever hooks a network goes on by ``torch.compiler.disable`` then; an export is no such graph.
    """
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting()
