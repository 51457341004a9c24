"""Evaluation mode and eager mode while probes are open, undone by the last that overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from operator import attrgetter
from weakref import WeakKeyDictionary

import torch
from torch import nn

from offmap._utils.locks import ModuleLock
from offmap.forward._shared import Shared

_TRAINING = attrgetter("training")
_lock = ModuleLock()
# Modules that were in training mode, and how many probes hold them in evaluation mode.
_evaluating: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


def evaluating(network: nn.Module, modules: Sequence[nn.Module], stack: ExitStack) -> None:
    """Set evaluation mode until every stack that holds it is closed."""
    with _lock():
        # At every call of a guard: mostly no module is in training mode.
        if not _evaluating and not any(map(_TRAINING, modules)):
            return
        lent_modules = set(_evaluating)
        lent = [m for m in modules if m.training or m in lent_modules]
        if any(module.training for module in lent):
            try:
                network.eval()
            except NotImplementedError:  # an exported program, which has one mode
                return
        for module in lent:
            _evaluating[module] = _evaluating.get(module, 0) + 1

    def resume_training() -> None:
        with _lock():
            for module in lent:
                _evaluating[module] -= 1
                if not _evaluating[module]:
                    del _evaluating[module]
                    module.training = True

    if lent:
        stack.callback(resume_training)


class _Eager(Shared):
    """Runs compiled code eagerly: the stance of the compiler holds for the whole process."""

    def _prepare(self, stack: ExitStack) -> None:
        stack.enter_context(torch.compiler.set_stance("force_eager"))


EAGER = _Eager()
