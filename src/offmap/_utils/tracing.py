"""Whether code is being compiled."""

from __future__ import annotations

import torch


def is_traced() -> bool:
    """Whether ``torch.compile`` traces the calling code, into graphs in which no hook fires.

    Code that hooks a network must then go on under ``torch.compiler.disable``; an export does not
    count.
    """
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting()
