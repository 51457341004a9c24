"""The values that hooks keep during one pass."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from offmap.forward._calls import first_input
from offmap.forward._outputs import first_tensor

Keep = Callable[[Tensor], None]


class Keeping(threading.local):
    """The values that hooks keep while one pass runs, for each thread apart."""

    def __init__(self) -> None:
        # Not only in a pass: another probe may run a module that this one has hooked too.
        self.end()

    def __reduce__(self) -> tuple[type[Keeping], tuple[()]]:
        """A copy, as of a network sent to a process while it has hooks, starts empty."""
        return Keeping, ()

    def begin(self, *, gradients: bool = False) -> dict[str, Tensor]:
        """Begin a pass: the dictionary that its hooks will fill."""
        self._values: dict[str, Tensor] = {}
        self._gradients = gradients
        return self._values

    def end(self) -> None:
        """End the pass: whatever else runs these modules fills another dictionary."""
        self.begin()

    def keeper(self, name: str, reduction: Callable[[Tensor], Tensor]) -> Keep:
        """A function that keeps its argument, reduced, under that name."""

        def keep(value: Tensor) -> None:
            # Later layers may work in place, and the kept values must not change with them.
            if self._gradients:
                self._values[name] = reduction(value).float().clone()
                return
            value = value.detach()
            reduced = reduction(value).float()
            # Traced tensors have no memory.
            shared = not torch.compiler.is_exporting() and (
                reduced.untyped_storage().data_ptr() == value.untyped_storage().data_ptr()
            )
            self._values[name] = reduced.clone() if shared else reduced

        return keep


def hook_before(module: nn.Module, keep: Keep) -> RemovableHandle:
    """Keep the first input of a module."""

    # Threads that open and close meanwhile may have removed the mark for arguments by name.
    def hook(module: nn.Module, args: Any, kwargs: Any = None) -> None:
        # Compiled code has hooks of its own, see _compiled.
        if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
            keep(first_input(args, kwargs))

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def hook_behind(module: nn.Module, keep: Keep) -> RemovableHandle:
    """Keep the output of a module."""

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
            keep(first_tensor(output))

    return module.register_forward_hook(hook)


@cache
def layer_of(name: str) -> Callable[[nn.Module], Any]:
    """A function that takes a layer of that name from a network."""
    # get_submodule() says more of a wrong name, and takes longer at every call of a guard.
    return attrgetter(name) if name else lambda network: network  # one that is itself the layer


@cache
def key_of(i: int) -> str:
    """The key of part ``i`` of the features: no layer has such a name."""
    return f"features {i}"
