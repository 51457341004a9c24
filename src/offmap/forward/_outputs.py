"""The outputs of networks, and the modules that wrap them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import torch
from torch import SymInt, Tensor, nn

from offmap.errors import ShapeError


def unwrapped(network: nn.Module) -> nn.Module:
    """The module inside DataParallel and ``torch.compile``: hooks do not fire in a compiled one."""
    while True:
        if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            network = network.module
        elif isinstance(inner := getattr(network, "_orig_mod", None), nn.Module):
            network = inner
        else:
            return network


def is_compiled(module: nn.Module) -> bool:
    """Whether a module runs compiled code, by ``torch.compile(module)`` or ``module.compile()``."""
    in_place = getattr(module, "_compiled_call_impl", None) is not None
    return in_place or isinstance(getattr(module, "_orig_mod", None), nn.Module)


def logits_of(output: Any, samples: int | SymInt) -> Tensor:
    """The logits in an output: a tensor, or a tuple, dict or object that holds them."""
    if _is_array(output, samples) and output.ndim == 2 and output.shape[1] > 1:
        return output  # the usual case, first: a guard asks at every call
    values = (_as_row(value, samples) for value in _candidates(output))
    arrays = [value for value in values if _is_array(value, samples)]
    # Pooled features may precede the logits as maps of one pixel: arrays of rows are preferred.
    if (value := next((x for x in arrays if x.ndim == 2), next(iter(arrays), None))) is not None:
        if value.shape[1] < 2:
            raise ShapeError(
                "the network returns one logit a sample, and scores compare classes: return "
                "two, with a column of zeros for the first class"
            )
        return value.flatten(1)
    raise ShapeError(
        f"the network must return logits of shape ({samples}, classes), alone, first in a tuple, "
        f"or under the name 'logits'; it returned {_described(output)}"
    )


def vectors_of(output: Any, samples: int | SymInt) -> Tensor:
    """One vector a sample in the output of a network without logits; maps are averaged."""
    for candidate in _candidates(output):
        value = _as_row(candidate, samples)
        if isinstance(value, Tensor) and value.ndim >= 2 and value.shape[0] == samples:
            return features_of(value)
    raise ShapeError(
        f"the network must return features, one row for each of {samples} samples; it returned "
        f"{_described(output)}"
    )


def arrays_of(output: Any, samples: int) -> Iterator[tuple[str, Tensor]]:
    """The arrays of one row a sample in an output, and their places, if none is named logits."""
    if has_named_logits(output):
        return
    items = output.items() if isinstance(output, Mapping) else enumerate(_candidates(output), 1)
    for place, value in items:
        if _is_array(value, samples):
            yield repr(place) if isinstance(place, str) else f"number {place}", value.flatten(1)


def has_named_logits(output: Any) -> bool:
    """Whether the output has an entry or attribute named logits."""
    logits = output.get("logits") if isinstance(output, Mapping) else None
    return logits is not None or hasattr(output, "logits")


def first_tensor(output: Any) -> Tensor:
    """The tensor that a layer returned, or the first in a tuple or dict of several."""
    if isinstance(output, Tensor):
        return output
    values = output.values() if isinstance(output, Mapping) else output
    for value in values if isinstance(output, Mapping | tuple | list) else ():
        if isinstance(value, Tensor | tuple | list | Mapping):
            return first_tensor(value)
    raise ShapeError(f"a layer that is kept returned no tensor but {_described(output)}")


def features_of(inputs: Tensor) -> Tensor:
    """One vector a sample: feature maps are averaged over space, other shapes flattened."""
    return inputs.flatten(2).mean(2) if inputs.ndim == 4 else inputs.flatten(1)


def _as_row(value: Any, samples: int | SymInt) -> Any:
    """The output of one sample as a row again, where the network squeezed its axis away."""
    if torch.compiler.is_exporting() or not isinstance(value, Tensor) or value.ndim != 1:
        return value  # a graph would hold for that one number of samples alone
    return value[None] if samples == 1 and len(value) > 1 else value


def _is_array(value: Any, samples: int | SymInt) -> TypeGuard[Tensor]:
    """Whether it is one vector a sample, or a map of one pixel, as of a convolutional head."""
    if not isinstance(value, Tensor) or value.ndim < 2 or value.shape[0] != samples:
        return False
    return value.ndim == 2 or (value.ndim == 4 and value.shape[2] == value.shape[3] == 1)


def _candidates(output: Any) -> Iterator[Any]:
    if isinstance(output, Tensor):  # first: most are, and the others take longer to tell
        yield output
    elif isinstance(output, Mapping):
        logits = output.get("logits")
        # An entry of that name is the logits, whatever its shape.
        yield from output.values() if logits is None else [logits]
    elif hasattr(output, "logits"):
        yield output.logits
    elif hasattr(output, "pooler_output"):
        yield output.pooler_output
    elif isinstance(output, tuple | list):
        yield from output
    else:
        yield output


def _described(output: Any) -> str:
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return "a dict of " + ", ".join(f"{k}: {_described(v)}" for k, v in output.items())
    if isinstance(output, tuple | list):
        return "a tuple of " + ", ".join(map(_described, output))
    return f"a {type(output).__name__}"
