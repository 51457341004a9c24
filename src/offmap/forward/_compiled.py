"""A compiled network that stays compiled while its features and layers are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from offmap._utils.warning import warn_user
from offmap.errors import OffmapWarning
from offmap.forward._calls import first_input
from offmap.forward._outputs import first_tensor, is_compiled

Pass = tuple[Any, dict[str, Tensor]]


class _Switch:
    """Whether hooks keep values; in a copy of a network they do not."""

    on = False

    def __reduce__(self) -> tuple[type[_Switch], tuple[()]]:
        return _Switch, ()


@dataclass(frozen=True)
class Place:
    """A layer whose inputs or outputs are kept.

    Args:
        key: under which the values are kept.
        layer: its name.
        reduce: applied to the values before they are kept.
        of_output: whether they are of its output, not of its input.
    """

    key: str
    layer: str
    reduce: Callable[[Tensor], Tensor]
    of_output: bool = False

    def hook(self, network: nn.Module, values: dict[str, Tensor], on: _Switch) -> RemovableHandle:
        """Keep its values while the switch is on."""
        layer, keep = network.get_submodule(self.layer), partial(self._keep, values, on)
        if self.of_output:
            return layer.register_forward_hook(lambda _, args, output: keep(first_tensor(output)))
        return layer.register_forward_pre_hook(
            lambda _, args, kwargs=None: keep(first_input(args, kwargs)), with_kwargs=True
        )

    def _keep(self, values: dict[str, Tensor], switch: _Switch, output: Tensor) -> None:
        if switch.on:
            # A copy, as later layers may work in place.
            values[self.key] = self.reduce(output).float().clone()


class Compiled:
    """A network of ``torch.compile(network)``, compiled once more with its hooks.

    Code compiled before the hooks were set ignores them. So a function that runs the network and
    returns the values its hooks kept is compiled, with the options that the user chose.

    Args:
        network: the network itself.
        compiler: the one of its wrapper.
    """

    def __init__(self, network: nn.Module, compiler: Callable[..., Any]) -> None:
        self._network, self._compiler = network, compiler
        self._values: dict[str, Tensor] = {}
        self._switch = _Switch()
        self._run: Callable[..., Pass] | None = None
        self._failed = False

    @classmethod
    def of(cls, network: nn.Module) -> Self | None:
        """For a network compiled in one piece by ``torch.compile(network)``, else ``None``."""
        inner = getattr(network, "_orig_mod", None)
        compiler = getattr(network, "dynamo_ctx", None)
        if not isinstance(inner, nn.Module) or not callable(compiler):
            return None
        return None if any(map(is_compiled, inner.modules())) else cls(inner, compiler)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy is ``None``, and so runs uncompiled: compiled code stays in its process."""
        return type(None), ()

    @property
    def ready(self) -> bool:
        """Whether the hooks are set."""
        return self._run is not None and not self._failed

    def hook(self, places: Sequence[Place], stack: ExitStack) -> None:
        """Keep inputs or outputs of these layers, until the stack is closed."""
        for place in places:
            stack.callback(place.hook(self._network, self._values, self._switch).remove)
        self._run = self._run or self._compiler(self._hooked_pass)

    def _hooked_pass(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pass:
        output = self._network(*args, **kwargs)
        return output, dict(self._values)

    def __call__(self, x: Any, lock: threading.RLock) -> Pass | None:
        """The output, and the values kept of the layers; ``None`` if compiling them fails.

        One thread at a time: where the compiler gives up, the hooks run as plain Python and fill
        the same dictionary.
        """
        assert self._run is not None
        args, kwargs = ((x,), {}) if isinstance(x, Tensor) else ((), dict(x))
        with lock:
            self._switch.on = True
            try:
                return self._run(args, kwargs)
            except torch._dynamo.exc.TorchDynamoException as error:
                self._failed = True
                warn_user(
                    "the compiled network runs as it is written, as it could not be compiled with "
                    f"its features: {str(error).strip().splitlines()[0]}",
                    OffmapWarning,
                )
                return None
            finally:
                self._switch.on = False
                self._values.clear()
