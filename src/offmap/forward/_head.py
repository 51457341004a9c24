"""The head of a classifier: which of its linear maps gives the logits, and from which features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from offmap._utils.precision import wide
from offmap.activations import Head
from offmap.activations.taps import whole
from offmap.errors import HeadError, ShapeError
from offmap.forward._calls import VECTOR, Call, maps, same
from offmap.forward._order import Origins
from offmap.forward._outputs import arrays_of
from offmap.forward._tokens import token_inputs, with_mean

# How far W h + b may be from the logits, as a share of the sum of its absolute terms.
_TOLERANCE = {"fp32": 1e-5, "tf32": 2e-3, "bf16": 1e-2}


@dataclass(frozen=True)
class HeadMatch:
    """The head, as found on the first batch.

    Args:
        calls: their inputs, side by side, are the features; empty where there are none.
        head: the map from features to logits, ``None`` where none was found.
        reason: why there is no head.
        of_one: whether a single sample has shown it.
    """

    calls: tuple[Call, ...]
    head: Head | None
    reason: str = ""
    of_one: bool = False

    @property
    def name(self) -> str | None:
        """The names of the layers, as ``head=`` takes them."""
        return "+".join(call.name for call in self.calls) or None

    @property
    def features(self) -> Tensor | None:
        """One row a sample."""
        parts = [call.features.float() for call in self.calls]
        return torch.cat(parts, dim=1) if parts else None

    def to(self, device: torch.device) -> HeadMatch:
        """The same on a device."""
        calls = (replace(call, features=call.features.to(device)) for call in self.calls)
        head = None if self.head is None else self.head.to(device)
        return replace(self, calls=tuple(calls), head=head)

    def without_features(self) -> HeadMatch:
        """The same without the features of the first batch."""
        return replace(self, calls=tuple(call.without_features() for call in self.calls))


def find_head(
    calls: Sequence[Call],
    modules: Mapping[str, nn.Module],
    head_name: str | None,
    z: Tensor,
    margin: float,
) -> HeadMatch:
    """The head among the calls of a network whose logits are ``z``.

    The head is the last map that gives the logits, up to one factor; or the last two, where the
    logits are the mean of their outputs; or the last one, if it gives them from one token a sample.
    Without a head, the features are the input of the layer that was named, of the map whose output
    is nearest, or of the last map.

    Raises:
        HeadError: the layer named was never called.
    """
    if head_name and len(calls) < len(head_name.split("+")):
        raise HeadError(f"the layer {head_name!r} was never called: name one that is, by head=")
    rows = [call for call in calls if len(call.features) == len(z)]
    heads = [call for call in rows if call.map is not None and len(call.map.weight) == z.shape[1]]
    for parts in [*((call,) for call in reversed(heads)), tuple(heads[-2:])]:
        if (head := _fit_maps(parts, z, margin)) is not None:
            if len(parts) == 1 and (tokens := parts[0].tokens) is not None and tokens.shape[1] == 1:
                # Of one token, the mean is no different: later batches decide between the two.
                parts = (replace(parts[0], reduce=with_mean, one_token=True),)
            return HeadMatch(parts, head, of_one=len(z) == 1)
    for call in reversed(heads):
        if call.tokens is not None:
            features = token_inputs(call.tokens, _float_map(call), z)
            of_one = replace(call, features=features, reduce=with_mean, one_token=True)
            if (head := _fit_maps((of_one,), z, margin)) is not None:
                return HeadMatch((of_one,), head, of_one=len(z) == 1)
    if rows:
        return _without_head(rows, heads, head_name if len(calls) > 1 else None, z)
    leaves = [name for name, m in modules.items() if name and not list(m.children())]
    reason = (
        "the network calls no torch.nn.Linear, so its features cannot be found: name the layer "
        f"whose input they are by head=; candidates, last first: {', '.join(leaves[:-9:-1])}"
    )
    if calls:
        reason = (
            f"the linear layer {calls[-1].name!r} is given {len(calls[-1].features)} rows for "
            f"{len(z)} samples, so its input is not one vector a sample: name a layer that is, by "
            "head="
        )
    return HeadMatch((), None, reason)


def _without_head(
    rows: Sequence[Call], heads: Sequence[Call], several: str | None, z: Tensor
) -> HeadMatch:
    """The features where none of these calls, whose layers may be named, gives the logits."""
    if several:
        reason = f"the logits are not the mean of what {several!r} give"
        return HeadMatch(tuple(rows), None, reason)
    nearest = min(
        heads,
        key=lambda call: _head_error(_float_map(call), call.features.float(), z),
        default=rows[-1],
    )
    reason = f"the logits are not the output of the last linear layer, {nearest.name!r}"
    if nearest.map is None or nearest.features.shape[1] != nearest.map.weight.shape[1]:
        reason = f"{nearest.name!r} is not a linear layer applied to one vector a sample"
    elif len(nearest.map.weight) != z.shape[1]:
        reason = f"{nearest.name!r} has {len(nearest.map.weight)} outputs, not {z.shape[1]}"
    return HeadMatch((nearest,), None, reason)


def confirm_head(match: HeadMatch, head: Head, x: Tensor, z: Tensor, margin: float) -> HeadMatch:
    """Check on more samples a head found on a single one, which fits any factor of its own.

    Raises:
        HeadError: it does not give the logits of the others.
    """
    x, z = _finite_rows(x.detach(), z.detach())
    if not len(z):
        return match
    with torch.no_grad():
        error = _head_error(head, x, z)
    # Thrice: the largest of many errors exceeds that of one.
    if error > 3 * _margin_of(match.calls, z.device, margin):
        raise HeadError(
            f"the logits of the first sample are what {match.name!r} gives, up to a factor, and "
            "those of others are not: start with a batch of several samples"
        )
    return replace(match, of_one=False)


def match_head(
    head: Head, arrays: Sequence[tuple[int, Tensor]], z: Tensor, margin: float
) -> HeadMatch:
    """The vectors from which a head that was given computes the logits ``z``.

    Raises:
        HeadError: there are none.
    """
    head = head.to(z.device)
    if len(head.weight) != z.shape[1]:
        raise HeadError(
            f"the head that was given has {len(head.weight)} classes, and the network returns "
            f"{z.shape[1]} logits a sample: give weight and bias as they stand in the network"
        )
    vectors = dict(arrays)
    if (number := number_of(head, vectors, z, margin)) is not None:
        call = Call(f"{VECTOR}[{number}]", vectors[number], whole, head, number)
        return HeadMatch((call,), head)
    raise HeadError(
        f"the head that was given takes {head.weight.shape[1]} features, and from none of the "
        f"{len(arrays)} arrays of that width that the network makes on its way does W h + b give "
        "the logits: give weight and bias as they stand in the network, scale included"
    )


def number_of(head: Head, vectors: dict[int, Tensor], z: Tensor, margin: float) -> int | None:
    """The number of the last vectors from which a head computes the logits, if any do."""
    fitting = (n for n in reversed(vectors) if _head_error(head, vectors[n].float(), z) <= margin)
    return next(fitting, None)


def _fit_maps(parts: Sequence[Call], z: Tensor, margin: float) -> Head | None:
    """The mean of several maps as one head, if it gives the logits."""
    if not parts:
        return None
    maps = [_float_map(call) for call in parts]
    weight = torch.cat([m.weight for m in maps], dim=1) / len(maps)
    biases = [m.bias for m in maps]
    bias = None if None in biases else sum(b for b in biases if b is not None) / len(maps)
    margin = _margin_of(parts, z.device, margin)
    x, z = _finite_rows(torch.cat([call.features.float() for call in parts], dim=1), z)
    head = Head(weight.clone(), None if bias is None else bias.clone())  # type: ignore[union-attr]
    # Or times the factor that brings its outputs nearest to the logits.
    out, wide_z = wide(head(x)), wide(z)
    least = torch.finfo(out.dtype).tiny
    factor = ((out * wide_z).sum() / out.square().sum().clamp(min=least)).float()
    scaled = Head(head.weight * factor, None if head.bias is None else head.bias * factor)
    return next((h for h in (head, scaled) if _head_error(h, x, z) <= margin), None)


def _margin_of(parts: Sequence[Call], device: torch.device, margin: float) -> float:
    """The margin, wider for logits of a convolution, which GPUs round more."""
    rounded = device.type == "cuda" and any(call.reduce is maps for call in parts)
    return max(margin, _TOLERANCE["tf32"]) if rounded and tf32_of_convolutions() else margin


def _float_map(call: Call) -> Head:
    assert call.map is not None
    weight, bias = call.map.weight.float(), call.map.bias
    return Head(weight, None if bias is None else bias.float())


def _finite_rows(x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The finite samples: others must not hide the head."""
    rows = x.isfinite().all(1) & z.isfinite().all(1)
    return x[rows], z[rows]


def _head_error(head: Head, x: Tensor, z: Tensor) -> float:
    """The largest error of W h + b, as a share of the sum of its absolute terms."""
    x, z = _finite_rows(x, z)
    if not len(z):
        return torch.inf
    terms = Head(head.weight.abs(), None if head.bias is None else head.bias.abs())(x.abs())
    miss = ((head(x) - z).abs() / terms.clamp(min=1e-30)).max()
    return float(torch.nan_to_num(miss, nan=torch.inf))


def check_others(
    calls: Sequence[Call],
    match: HeadMatch,
    output: Any,
    logits: Tensor,
    margin: float,
    origins: Origins,
) -> None:
    """Refuse a network that returns features first, and then logits.

    Raises:
        ShapeError: a later output is that of its last linear layer, and no second head. Where the
            first is made from it, it is an embedding, and the first may well be the logits.
    """
    rows = [call for call in calls if call.map and len(call.features) == len(logits)]
    if not rows:
        return
    final = rows[-1]
    if match.head is not None:
        # The first is an embedding, and no logits, where later maps take as many inputs as the head
        # has outputs; a second head takes the inputs of the first.
        names = [call.name for call in rows]
        head = match.calls[-1]
        later = rows[names.index(head.name) + 1 :] if head.name in names else []
        second = bool(later) and same(final.features, head.features)
        if second or not any(call.features.shape[1] == logits.shape[1] for call in later):
            return
    assert final.map is not None
    arrays = list(arrays_of(output, len(logits)))
    for place, array in arrays:
        fitting = array.shape[1] != logits.shape[1] and array.shape[1] == len(final.map.weight)
        if not fitting or origins.lead(array, arrays[0][1]):
            continue
        if _fit_maps([final], array.float(), margin) is not None:
            raise ShapeError(
                f"the network returns several arrays; the first, of shape {tuple(logits.shape)}, "
                f"was taken for the logits, but {place} is what its last linear layer "
                f"{final.name!r} gives: return that one first, of shape {tuple(array.shape)}, or "
                "as 'logits'"
            )


def tolerance(precision: str, dtype: torch.dtype, device: torch.device) -> float:
    """How far W h + b may be from the logits, in the arithmetic of a network."""
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
