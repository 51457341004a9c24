"""What hooks keep of one pass."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache, partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from offmap.forward._calls import given_to
from offmap.forward._outputs import first_tensor

Keep = Callable[[Tensor], None]


class Keeping(threading.local):
    """A place that hooks fill while one pass runs; each thread has its own."""

    def __init__(self) -> None:
        # Not only in a pass: another probe may run a module that this one has hooked too.
        self.end()

    def __reduce__(self) -> tuple[type[Keeping], tuple[()]]:
        """A copy, as of a network that is sent while its hooks are there, has nothing yet."""
        return Keeping, ()

    def begin(self, *, gradients: bool = False) -> dict[str, Tensor]:
        """A new pass, and where all of it will stand."""
        self._kept: dict[str, Tensor] = {}
        self._gradients = gradients
        return self._kept

    def end(self) -> None:
        """What others run of these modules is not of this pass."""
        self.begin()

    def keeper(self, name: str, reduction: Callable[[Tensor], Tensor]) -> Keep:
        """A function that keeps what it is given, reduced, under that name."""

        def keep(value: Tensor) -> None:
            # What comes behind may work in place, and what is kept must not change with it.
            if self._gradients:
                self._kept[name] = reduction(value).float().clone()
                return
            value = value.detach()
            reduced = reduction(value).float()
            # What is traced lies in no memory.
            shared = not torch.compiler.is_exporting() and (
                reduced.untyped_storage().data_ptr() == value.untyped_storage().data_ptr()
            )
            self._kept[name] = reduced.clone() if shared else reduced

        return keep


def hook_before(module: nn.Module, keep: Keep) -> RemovableHandle:
    """Keep what a module is given."""
    # Threads that open and close meanwhile may have taken the sign that arguments by name follow.
    return module.register_forward_pre_hook(partial(_before, keep), with_kwargs=True)


def _before(keep: Keep, module: nn.Module, args: Any, kwargs: Any = None) -> None:
    # What is compiled has hooks of its own, see _compiled.
    if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
        keep(given_to(args, kwargs))


def hook_behind(module: nn.Module, keep: Keep) -> RemovableHandle:
    """Keep what a module gives."""

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
    """Under which part ``i`` of the features is kept: no layer has such a name."""
    return f"features {i}"
