"""The head of a classifier: which of its linear maps gives the logits, and what that is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from offmap._utils.precision import wide
from offmap.activations import Head
from offmap.errors import HeadError, ShapeError
from offmap.forward._calls import VECTOR, Call, maps, same
from offmap.forward._outputs import arrays_of
from offmap.forward._tokens import chosen, with_mean

# By how much W h + b may miss the logits, as a share of the sum of its absolute terms.
_TOLERANCE = {"fp32": 1e-5, "tf32": 2e-3, "bf16": 1e-2}


@dataclass(frozen=True)
class Found:
    """What a first batch says of the head.

    Args:
        calls: whose inputs, side by side, are the features; none where there are no features.
        head: the map from features to logits, ``None`` where none was found.
        why: there is no head.
        of_one: whether one sample alone has shown it.
    """

    calls: tuple[Call, ...]
    head: Head | None
    why: str = ""
    of_one: bool = False

    @property
    def name(self) -> str | None:
        """Of the layers, as ``head=`` takes it."""
        return "+".join(call.name for call in self.calls) or None

    @property
    def features(self) -> Tensor | None:
        """One row a sample."""
        parts = [call.features.float() for call in self.calls]
        return torch.cat(parts, dim=1) if parts else None

    def to(self, device: torch.device) -> Found:
        """The same on a device."""
        calls = (replace(call, features=call.features.to(device)) for call in self.calls)
        head = None if self.head is None else self.head.to(device)
        return replace(self, calls=tuple(calls), head=head)

    def without_features(self) -> Found:
        """The same without the rows of the first batch."""
        return replace(self, calls=tuple(call.without_features() for call in self.calls))


def found(
    calls: Sequence[Call],
    modules: Mapping[str, nn.Module],
    named: str | None,
    z: Tensor,
    near: float,
) -> Found:
    """The head among the calls of a network whose logits are ``z``.

    The last map that gives the logits, up to one factor, is the head; or the last two, where the
    logits are the mean of theirs; or the last one, if it gives them of one token each. Without one,
    the features are the input of the layer named, of the map that comes nearest, or of the last
    one.

    Raises:
        HeadError: the layer named was never called.
    """
    if named and len(calls) < len(named.split("+")):
        raise HeadError(f"the layer {named!r} was never called: name one that is, by head=")
    rows = [call for call in calls if len(call.features) == len(z)]
    if not rows:
        return Found((), None, _why_no_rows(calls, modules, len(z)))
    heads = [call for call in rows if call.map is not None and len(call.map.weight) == z.shape[1]]
    for parts in [*((call,) for call in reversed(heads)), tuple(heads[-2:])]:
        if (head := _fitting(parts, z, near)) is not None:
            parts = tuple(map(_undecided, parts)) if len(parts) == 1 else parts
            return Found(parts, head, of_one=len(z) == 1)
    for call in reversed(heads):
        if call.tokens is not None:
            of_one = _of_one_token(call, call.tokens, z)
            if (head := _fitting((of_one,), z, near)) is not None:
                return Found((of_one,), head, of_one=len(z) == 1)
    if named and len(calls) > 1:
        return Found(tuple(rows), None, f"the logits are not the mean of what {named!r} give")
    nearest = min(
        heads, key=lambda call: _miss(_map(call), call.features.float(), z), default=rows[-1]
    )
    return Found((nearest,), None, _why(nearest, z))


def borne_out(of: Found, head: Head, x: Tensor, z: Tensor, near: float) -> Found:
    """What one sample alone has shown, once others show it: it fits any factor of its own.

    Raises:
        HeadError: they do not.
    """
    x, z = _finite(x.detach(), z.detach())
    if not len(z):
        return of
    with torch.no_grad():
        missed = _miss(head, x, z)
    if missed > 3 * _near(of.calls, z.device, near):  # the largest of many is larger than of one
        raise HeadError(
            f"the logits of the first sample are what {of.name!r} gives, up to a factor, and those "
            "of others are not: start with a batch of several samples"
        )
    return replace(of, of_one=False)


def found_for(head: Head, arrays: Sequence[tuple[int, Tensor]], z: Tensor, near: float) -> Found:
    """The vectors from which a head that was given makes the logits ``z``.

    Raises:
        HeadError: there are none.
    """
    head = head.to(z.device)
    vectors = dict(arrays)
    if (number := number_of(head, vectors, z, near)) is not None:
        call = Call(f"{VECTOR}[{number}]", vectors[number], _as_it_is, head, number)
        return Found((call,), head)
    raise HeadError(
        f"the head that was given takes {head.weight.shape[1]} features, and from none of the "
        f"{len(arrays)} arrays of that width that the network makes on its way does W h + b give "
        "the logits: give weight and bias as they stand in the network, scale included"
    )


def number_of(head: Head, vectors: dict[int, Tensor], z: Tensor, near: float) -> int | None:
    """Which of the vectors are those from which a head makes the logits, the last of them."""
    fitting = (n for n in reversed(vectors) if _miss(head, vectors[n].float(), z) <= near)
    return next(fitting, None)


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _of_one_token(call: Call, tokens: Tensor, z: Tensor) -> Call:
    """The same call, where the logits of each sample are made of one of its tokens."""
    features = chosen(tokens, _map(call), z)
    return replace(call, features=features, reduce=with_mean, chosen=True)


def _undecided(call: Call) -> Call:
    """Of single tokens, nothing tells a mean of them from one: each batch then shows it."""
    single = call.tokens is not None and call.tokens.shape[1] == 1
    return replace(call, reduce=with_mean, chosen=True) if single else call


def _fitting(parts: Sequence[Call], z: Tensor, near: float) -> Head | None:
    """The head that several maps are together, if it gives the logits."""
    if not parts:
        return None
    maps = [_map(call) for call in parts]
    weight = torch.cat([m.weight for m in maps], dim=1) / len(maps)
    biases = [m.bias for m in maps]
    bias = None if None in biases else sum(b for b in biases if b is not None) / len(maps)
    near = _near(parts, z.device, near)
    x, z = _finite(torch.cat([call.features.float() for call in parts], dim=1), z)
    head = Head(weight.clone(), None if bias is None else bias.clone())  # type: ignore[union-attr]
    for candidate in (head, _scaled(head, x, z)):
        if _miss(candidate, x, z) <= near:
            return candidate
    return None


def _near(parts: Sequence[Call], device: torch.device, near: float) -> float:
    """By how much the logits may miss where a convolution gives them, which GPUs round more."""
    rounded = device.type == "cuda" and any(call.reduce is maps for call in parts)
    return max(near, _TOLERANCE["tf32"]) if rounded and tf32_of_convolutions() else near


def _scaled(head: Head, x: Tensor, z: Tensor) -> Head:
    """The head times the factor that brings its outputs nearest to the logits."""
    out, z = wide(head(x)), wide(z)
    least = torch.finfo(out.dtype).tiny
    factor = ((out * z).sum() / out.square().sum().clamp(min=least)).float()
    return Head(head.weight * factor, None if head.bias is None else head.bias * factor)


def _map(call: Call) -> Head:
    assert call.map is not None
    weight, bias = call.map.weight.float(), call.map.bias
    return Head(weight, None if bias is None else bias.float())


def _finite(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The samples that say something: one that is not finite must not hide the head."""
    rows = x.isfinite().all(1) & z.isfinite().all(1)
    return x[rows], z[rows]


def _miss(head: Head, x: Tensor, z: Tensor) -> float:
    """By how much W h + b misses the logits, as a share of its absolute terms."""
    x, z = _finite(x, z)
    if not len(z):
        return torch.inf
    terms = Head(head.weight.abs(), None if head.bias is None else head.bias.abs())(x.abs())
    miss = ((head(x) - z).abs() / terms.clamp(min=1e-30)).max()
    return float(torch.nan_to_num(miss, nan=torch.inf))


def _why(call: Call, z: Tensor) -> str:
    if call.map is None or call.features.shape[1] != call.map.weight.shape[1]:
        return f"{call.name!r} is not a linear layer applied to one vector a sample"
    if len(call.map.weight) != z.shape[1]:
        return f"{call.name!r} has {len(call.map.weight)} outputs, not {z.shape[1]}"
    return f"the logits are not the output of the last linear layer, {call.name!r}"


def _why_no_rows(calls: Sequence[Call], modules: Mapping[str, nn.Module], n: int) -> str:
    if calls:
        last = calls[-1]
        return (
            f"the linear layer {last.name!r} is given {len(last.features)} rows for {n} samples, "
            "so its input is not one vector a sample: name a layer that is, by head="
        )
    leaves = [name for name, m in modules.items() if name and not list(m.children())]
    return (
        "the network calls no torch.nn.Linear, so its features cannot be found: name the layer "
        f"whose input they are by head=; candidates, last first: {', '.join(leaves[:-9:-1])}"
    )


def check_others(
    calls: Sequence[Call], of: Found, output: Any, logits: Tensor, near: float
) -> None:
    """Refuse a network that returns features first, and then logits.

    Raises:
        ShapeError: what it returned later is what its last linear layer gives, and no second head.
    """
    rows = [call for call in calls if call.map and len(call.features) == len(logits)]
    if not rows or (of.head is not None and not _goes_on(rows, of, logits)):
        return
    last = rows[-1]
    assert last.map is not None
    for where, other in arrays_of(output, len(logits)):
        wide = other.shape[1] != logits.shape[1] and other.shape[1] == len(last.map.weight)
        if wide and _fitting([last], other.float(), near) is not None:
            raise ShapeError(
                f"the network returns several arrays; the first, of shape {tuple(logits.shape)}, "
                f"was taken for the logits, but {where} is what its last linear layer "
                f"{last.name!r} gives: return that one first, of shape {tuple(other.shape)}, or as "
                "'logits'"
            )


def _goes_on(calls: Sequence[Call], of: Found, z: Tensor) -> bool:
    """Whether maps behind the head start from as many numbers as it gives: embeddings, not logits.

    A second head starts from what the first is given.
    """
    names = [call.name for call in calls]
    head = of.calls[-1]
    behind = calls[names.index(head.name) + 1 :] if head.name in names else ()
    if not behind or same(behind[-1].features, head.features):
        return False
    return any(call.features.shape[1] == z.shape[1] for call in behind)


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


def tf32_of_convolutions() -> bool:
    """Whether float32 convolutions are: they are unless that is switched off."""
    cudnn = torch.backends.cudnn
    newer = getattr(getattr(cudnn, "conv", None), "fp32_precision", None)
    return bool(cudnn.allow_tf32) if newer is None else newer == "tf32"
