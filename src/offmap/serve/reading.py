"""The inputs of a guard: images, features or tokens, as tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from offmap._utils.inputs import Inputs
from offmap.errors import ArgumentError
from offmap.guard import Guard
from offmap.serve.refusals import Refusal
from offmap.serve.tensors import check_numbers

# Inputs that are looked up in a table, and the name of its size in a transformers configuration.
_TABLES = {"input_ids": "vocab_size", "token_type_ids": "type_vocab_size"}
_PLACES = ("position_embeddings", "position_embedding", "embed_positions", "wpe")  # likewise


@dataclass(frozen=True)
class Reads:
    """The inputs of a guard by name, each with the datatypes that it may have.

    Args:
        kind: "images", "features" or "tokens".
        datatypes: the first is the usual one.
        shape: of one row; none of tokens, whose rows are of any length.
        names: of the inputs.
        below: upper bounds of the tokens by the name of their input, where known: a GPU that looks
            a token up beyond its table fails for good.
        longest: the most tokens that a row may have, where known: each has its place in a table.
    """

    kind: str
    datatypes: tuple[str, ...]
    shape: tuple[int, ...] | None
    names: tuple[str, ...]
    below: Mapping[str, int] = field(default_factory=dict)
    longest: int | None = None

    @classmethod
    def of(cls, guard: Guard) -> Self:
        """Those of a guard.

        Raises:
            ArgumentError: it does not know the shape of its inputs.
        """
        if guard.input_names:
            config = getattr(guard.probe.network, "config", None)
            sizes = {name: getattr(config, size, None) for name, size in _TABLES.items()}
            below = {name: size for name, size in sizes.items() if size}
            tables = [  # positions, without those of padding
                module.num_embeddings - (0 if (i := module.padding_idx) is None else i + 1)
                for name, module in guard.probe.network.named_modules()
                if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in _PLACES
            ]
            stated = getattr(config, "max_position_embeddings", None)
            longest = min(min(tables), stated or min(tables)) if tables else None
            return cls("tokens", ("INT64", "INT32"), None, guard.input_names, below, longest)
        if guard.input_shape is None or len(guard.input_shape) not in (1, 3):
            raise ArgumentError(
                "this guard does not know the shape of its inputs, or it is neither that of images "
                f"nor of features: seen {guard.input_shape}; give --size, or fit it anew"
            )
        if len(guard.input_shape) == 1:
            return cls("features", ("FP32", "FP64", "FP16"), guard.input_shape, ("features",))
        pixels = ("UINT8",) if getattr(guard.probe.normalization, "known", True) else ()
        # Else the first client's floats would decide for all clients in what form floats come.
        floats = ("FP32",) if guard.probe.floats is not None else ()
        return cls("images", pixels + floats, guard.input_shape, ("images",))

    def checked(self, inputs: Mapping[str, Tensor]) -> Inputs:
        """One tensor, or several by name, as the guard takes them.

        Args:
            inputs: by name, of the datatypes above.

        Raises:
            Refusal: other names or shapes, no rows, or values that are not finite or no tokens.
        """
        tensors = dict(inputs)
        if "attention_mask" in self.names and "attention_mask" not in tensors and tensors:
            tensors["attention_mask"] = torch.ones_like(next(iter(tensors.values())))
        if set(tensors) != set(self.names):
            raise Refusal(
                400, f"inputs are {', '.join(self.names)}; seen {', '.join(inputs) or 'none'}"
            )
        rows = {x.shape[0] if x.ndim else 0 for x in tensors.values()}
        if len(rows) != 1 or 0 in rows:
            raise Refusal(400, "inputs need one row or more, and as many in each")
        if self.kind == "tokens":
            return {name: self._tokens(name, tensors[name]) for name in self.names}
        (x,) = tensors.values()
        if tuple(x.shape[1:]) != self.shape:
            shape = f"(n, {_listed(self.shape or ())[1:]}"
            raise Refusal(
                400, f"{self.names[0]} must have the shape {shape}; seen {_listed(x.shape)}"
            )
        if x.is_floating_point() and not bool(x.isfinite().all()):
            raise Refusal(400, "inputs must be finite: seen NaN or infinity")
        x = x.float() if x.is_floating_point() else x
        if x.is_floating_point() and not bool(x.isfinite().all()):
            raise Refusal(400, "inputs must be numbers of 32 bits: seen larger ones")
        return x

    def _tokens(self, name: str, x: Tensor) -> Tensor:
        if x.ndim != 2 or x.shape[1] == 0 or x.is_floating_point():
            raise Refusal(400, f"{name} must be integers of shape (n, length)")
        if self.longest is not None and x.shape[1] > self.longest:
            raise Refusal(400, f"a row of {name} has {x.shape[1]:,} tokens: {self.longest:,} fit")
        x = x.long()
        bound = self.below.get(name)
        if bool((x < 0).any()) or (bound is not None and bool((x >= bound).any())):
            raise Refusal(400, f"{name} has values that are no tokens of this network")
        return x

    def rows(self, rows: Sequence[Any]) -> Iterator[tuple[list[int], Inputs]]:
        """Rows of JSON, those of one length together, with their indices.

        Raises:
            Refusal: there are none, or what they hold is no numbers of the shape.
        """
        if self.kind == "images":
            raise Refusal(415, "this guard reads images: send files, or image/* as the body")
        if not rows:
            raise Refusal(400, "there are no rows")
        columns = [self._columns(row) for row in rows]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for i, row in enumerate(columns):
            groups.setdefault(tuple(sorted((k, v.shape) for k, v in row.items())), []).append(i)
        for places in groups.values():
            names = columns[places[0]]
            yield (
                places,
                self.checked(
                    {name: torch.stack([columns[i][name] for i in places]) for name in names}
                ),
            )

    def _columns(self, row: Any) -> dict[str, Tensor]:
        """Lists of numbers as tensors, by name."""
        columns = row if isinstance(row, dict) else {self.names[0]: row}
        if not set(columns) <= set(self.names):
            raise Refusal(400, f"a row has a column that is none of {', '.join(self.names)}")
        whole = self.kind == "tokens"
        tensors: dict[str, Tensor] = {}
        for name, values in columns.items():
            try:
                check_numbers(values)
                array = np.asarray(values)
            except (ValueError, OverflowError):  # lists of several lengths; beyond any type
                array = np.empty(0, object)
            if array.dtype.kind not in ("iu" if whole else "iuf") or array.ndim != 1:
                raise Refusal(400, f"{name} must be a list of numbers")
            tensors[name] = torch.from_numpy(array.astype(np.int64 if whole else np.float64))
        return tensors


def _listed(shape: Sequence[int]) -> str:
    return f"({', '.join(map(str, shape))})"
