"""The last linear layer of a classifier: which it is, and whether the logits are its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from offmap.activations import Head
from offmap.errors import HeadError, ShapeError
from offmap.forward._outputs import arrays_of

# By how much W h + b may miss the logits, as a share of the sum of its absolute terms.
_TOLERANCE = {"fp32": 1e-5, "tf32": 2e-3, "bf16": 1e-2}

Calls = dict[str, tuple[nn.Module, Tensor]]


@contextmanager
def recording(modules: Mapping[str, nn.Module], named: str | None) -> Iterator[Calls]:
    """Calls of the linear layers, or of the layer named, with their inputs, in order."""
    calls: Calls = {}
    wanted = {
        name: module
        for name, module in modules.items()
        if (name == named if named else isinstance(module, nn.Linear))
    }
    handles = [m.register_forward_pre_hook(_recorder(n, calls)) for n, m in wanted.items()]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _recorder(name: str, calls: dict[str, tuple[nn.Module, Tensor]]) -> Callable[..., None]:
    def record(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        calls.pop(name, None)  # a layer called again moves to the end: the order is that of calls
        if inputs and isinstance(inputs[0], Tensor):
            calls[name] = (module, inputs[0].detach().clone())  # what follows may work in place

    return record


def last_of(
    calls: Calls, modules: Mapping[str, nn.Module], named: str | None
) -> tuple[str, nn.Module, Tensor]:
    """Name, module and input of the layer that was called last.

    Raises:
        HeadError: none was.
    """
    if calls:
        name, (module, inputs) = list(calls.items())[-1]
        return name, module, inputs
    if named:
        raise HeadError(f"the layer {named!r} was never called: name one that is, by head=")
    leaves = [name for name, m in modules.items() if name and not list(m.children())]
    raise HeadError(
        "the network calls no torch.nn.Linear, so its features cannot be found: name the layer "
        f"whose input they are by head=; candidates, last first: {', '.join(leaves[:-9:-1])}"
    )


def verified(
    name: str, module: nn.Module, features: Tensor, logits: Tensor, near: float
) -> tuple[Head | None, str]:
    """The head, if applying it to the features gives the logits; else why it is none."""
    if not isinstance(module, nn.Linear) or features.shape[1] != module.in_features:
        return None, f"{name!r} is not a linear layer applied to one vector a sample"
    weight = module.weight.detach().float().clone()
    bias = None if module.bias is None else module.bias.detach().float().clone()
    head = Head(weight, bias)
    if len(weight) != logits.shape[1]:
        return None, f"{name!r} has {len(weight)} outputs, not {logits.shape[1]}"
    terms = Head(weight.abs(), None if bias is None else bias.abs())(features.abs())
    miss = ((head(features) - logits).abs() / terms.clamp(min=1e-30)).max()
    if not miss <= near:
        return None, f"the logits are not the output of the last linear layer, {name!r}"
    return head, ""


def check_others(
    name: str, module: nn.Module, features: Tensor, output: Any, logits: Tensor, near: float
) -> None:
    """Refuse a network that returns features first, and then logits.

    Raises:
        ShapeError: what it returned later is what its last linear layer gives.
    """
    for where, other in arrays_of(output, len(logits)):
        wide = other.shape[1] != logits.shape[1]
        if wide and verified(name, module, features, other.float(), near)[0] is not None:
            raise ShapeError(
                f"the network returns several arrays; the first, of shape {tuple(logits.shape)}, "
                f"was taken for the logits, but {where} is what its last linear layer {name!r} "
                "gives: return that one first, or as 'logits'"
            )


def tolerance(precision: str, dtype: torch.dtype, device: torch.device) -> float:
    """By how much the logits may miss, in the arithmetic of a network."""
    if precision == "bf16" or dtype in (torch.bfloat16, torch.float16):
        return _TOLERANCE["bf16"]
    return _TOLERANCE["tf32" if device.type == "cuda" and tf32() else "fp32"]


def tf32() -> bool:
    """Whether float32 products of matrices are rounded to TF32."""
    matmul = torch.backends.cuda.matmul
    # Torch 2.9 brought another name, and once it is used the older one raises.
    newer = getattr(matmul, "fp32_precision", None)
    return bool(matmul.allow_tf32) if newer is None else newer == "tf32"
