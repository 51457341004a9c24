"""The activations of one pass of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from offmap._utils.precision import sum_is_finite
from offmap.activations.taps import Tap
from offmap.errors import NeedsError, NonFiniteError, ShapeError


class Activations:
    """The activations of one pass of a network, for a batch of ``n`` samples.

    Any part may be absent, and only reading it is an error: features alone, or logits alone, are
    enough for the detectors that read no more.

    Args:
        logits: outputs before the softmax, ``(n, c)``.
        features: input of the last linear layer, ``(n, d)``.
        layers: reduced activations of other layers by :meth:`Tap.key`, each ``(n, ...)``.
        members: the activations of each member of an ensemble. Its ``logits`` are then the
            logarithms of the mean of the members' probabilities, and it has no features.
        classifier_logits: logits of the network that gives the predictions, ``(n, c)``, where
            that is another one.
        keys: what identifies each sample, such as its path or its row.
        absent: why there are no features, where that is known.

    Raises:
        ShapeError: they differ in their number of samples, or are not one row a sample.
    """

    __slots__ = (
        "_features",
        "_finite",
        "_logits",
        "absent",
        "classifier_logits",
        "keys",
        "layers",
        "members",
    )

    def __init__(
        self,
        logits: Float[Tensor, "n c"] | None = None,
        features: Float[Tensor, "n d"] | None = None,
        layers: Mapping[str, Float[Tensor, "n ..."]] | None = None,
        members: tuple[Activations, ...] = (),
        classifier_logits: Float[Tensor, "n c"] | None = None,
        keys: tuple[str, ...] | None = None,
        absent: str = "",
    ) -> None:
        self._logits, self._features = logits, features
        self.absent = absent
        self.layers: Mapping[str, Tensor] = layers or {}
        self.members = tuple(members)
        self.classifier_logits = classifier_logits
        self.keys = keys
        self._finite = False
        if torch.compiler.is_exporting():  # where a batch has no size yet
            return
        for name, x in (("logits", logits), ("features", features)):
            if x is not None and x.ndim != 2:
                raise ShapeError(
                    f"{name} must be one row a sample, (n, columns); seen {tuple(x.shape)}: "
                    "average maps over their positions, or flatten them"
                )
        sizes = {x.shape[0] for x in self._all()} | {len(m) for m in self.members}
        if len(sizes) != 1 or (keys is not None and len(keys) not in sizes):
            raise ShapeError(
                "activations are of one number of samples, and need logits, features, layers or "
                f"members; seen {sorted(sizes)} samples and "
                f"{'no' if keys is None else len(keys)} keys"
            )

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in self._tensors().items())
        return f"Activations of {len(self)} samples: {shapes or f'{len(self.members)} members'}"

    @property
    def logits(self) -> Float[Tensor, "n c"]:
        """Outputs before the softmax.

        Raises:
            NeedsError: there are none.
        """
        if self._logits is None:
            raise NeedsError("the logits are read, and these activations have none")
        return self._logits

    @property
    def features(self) -> Float[Tensor, "n d"]:
        """The input of the last linear layer.

        Raises:
            NeedsError: there are none.
        """
        if self._features is None:
            reason = f": {self.absent}" if self.absent else ""
            raise NeedsError(f"the features are read, and these activations have none{reason}")
        return self._features

    @property
    def has_logits(self) -> bool:
        """Whether there are logits."""
        return self._logits is not None

    @property
    def has_predictions(self) -> bool:
        """Whether there are logits to predict classes from."""
        return self._logits is not None or self.classifier_logits is not None

    @property
    def has_features(self) -> bool:
        """Whether there are features."""
        return self._features is not None

    def tapped(self, tap: Tap) -> tuple[Float[Tensor, "n ..."], ...]:
        """The reduced activations of the layers that a tap names, in the order of the network.

        Raises:
            NeedsError: they were not kept.
        """
        layers: list[Tensor] = []
        while (key := tap.key(len(layers))) in self.layers:
            layers.append(self.layers[key])
        if not layers:
            raise NeedsError(
                f"the layer {tap.layer!r}, reduced by {tap.reduction!r}, is read, and these "
                "activations do not hold it: either the network has no such layer, or it was run "
                "without taps=, which Guard and evaluate give"
            )
        return tuple(layers)

    def _tensors(self) -> dict[str, Tensor]:
        parts = {
            "logits": self._logits,
            "features": self._features,
            "classifier_logits": self.classifier_logits,
            **self.layers,
        }
        return {name: x for name, x in parts.items() if x is not None}

    def _all(self) -> list[Tensor]:
        return list(self._tensors().values())

    @property
    def widths(self) -> tuple[int | None, int | None, int]:
        """Number of logits, features (``None`` where absent) and members."""
        z, h = self._logits, self._features  # without a loop: asked at every call of a guard
        logits = None if z is None else z.shape[1]
        return logits, None if h is None else h.shape[1], len(self.members)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        tensor = self._logits if self._features is None else self._features
        return (tensor if tensor is not None else (self._all() or self.members)[0]).device

    def __len__(self) -> int:
        return len((self._all() or self.members)[0])

    @property
    def predictions(self) -> Int64[Tensor, " n"]:
        """The class that the network gives each sample, be it ID or OOD."""
        logits = self.classifier_logits
        return (self.logits if logits is None else logits).argmax(1)

    @property
    def labels(self) -> Int64[Tensor, " n"]:
        """The predictions, or -1 for each sample where there are none."""
        if self.has_predictions:
            return self.predictions
        return torch.full_like(self.features[:, 0], -1, dtype=torch.int64)

    def __getitem__(self, rows: slice | Tensor) -> Activations:
        """The same activations for some of the samples."""
        acts = self._map(lambda x: x[rows])
        if self.keys is not None:
            index = rows.cpu() if isinstance(rows, Tensor) else rows
            indices = torch.arange(len(self), device="cpu")[index]
            acts.keys = tuple(self.keys[i] for i in indices.tolist())
        return acts

    def to(self, device: torch.device) -> Activations:
        """The same activations on a device."""
        return self if self.device == device else self._map(lambda x: x.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Activations:
        """Apply a function to every tensor; keys are copied, for as many samples."""
        acts = Activations.__new__(Activations)
        acts._logits = None if self._logits is None else change(self._logits)
        acts._features = None if self._features is None else change(self._features)
        acts.layers = {name: change(x) for name, x in self.layers.items()}
        acts.members = tuple(member._map(change) for member in self.members)
        logits = self.classifier_logits
        acts.classifier_logits = None if logits is None else change(logits)
        acts.keys, acts.absent, acts._finite = self.keys, self.absent, self._finite
        return acts

    def replace(self, **changes: Any) -> Activations:
        """The same activations with some parts replaced, by the names of the constructor."""
        parts = {
            "logits": self._logits,
            "features": self._features,
            "layers": self.layers,
            "members": self.members,
            "classifier_logits": self.classifier_logits,
            "keys": self.keys,
            "absent": self.absent,
        }
        return Activations(**(parts | changes))

    @classmethod
    def joined(cls, parts: Sequence[Activations]) -> Activations:
        """The activations of several batches as one; a part that one of them lacks is absent."""
        all_tensors = [part._tensors() for part in parts]
        names = [name for name in all_tensors[0] if all(name in x for x in all_tensors)]
        tensors = {name: torch.cat([x[name] for x in all_tensors]) for name in names}
        members = zip(*(part.members for part in parts), strict=True)
        keys = [part.keys for part in parts]
        acts = cls(
            tensors.pop("logits", None),
            tensors.pop("features", None),
            members=tuple(cls.joined(batches) for batches in members),
            classifier_logits=tensors.pop("classifier_logits", None),
            layers=tensors,
            keys=None if None in keys else tuple(key for batch in keys for key in batch or ()),
            absent=next((p.absent for p in parts if not p.has_features), parts[0].absent),
        )
        acts._finite = all(part._finite for part in parts)
        return acts

    @classmethod
    def of_members(cls, members: Sequence[Activations]) -> Activations:
        r"""The activations of an ensemble, with the logits :math:`\log \tfrac1M \sum_m p_m`.

        Raises:
            ShapeError: the members differ in their number of classes or samples.
        """
        if len(shapes := {tuple(member.logits.shape) for member in members}) != 1:
            raise ShapeError(
                f"the members of an ensemble must give logits of one shape; seen {sorted(shapes)}"
            )
        return cls(log_mean_probabilities([m.logits for m in members]), members=tuple(members))

    @property
    def is_finite(self) -> bool:
        """Whether there is no NaN and no infinity anywhere."""
        if not self._finite:
            members = all(m.is_finite for m in self.members) if self.members else True
            self._finite = members and all(map(sum_is_finite, self._all()))
        return self._finite or bool(self.finite_rows().all())

    def finite_rows(self) -> Bool[Tensor, " n"]:
        """Which samples have nothing but finite numbers."""
        rows = [x.flatten(1).isfinite().all(1) for x in self._tensors().values()]
        return torch.stack([*rows, *(member.finite_rows() for member in self.members)]).all(0)

    def check_finite(self, *, start: int = 0) -> None:
        """Refuse NaN and infinity.

        Args:
            start: index of the first sample of this batch in its data set, for the message.

        Raises:
            NonFiniteError: names the part that is not finite, the number of samples, and the first.
        """
        if self._finite:  # once is enough, however many read them
            return
        for member in self.members:
            member.check_finite(start=start)
        for name, x in self._tensors().items():
            # A finite sum proves all finite without a mask; only its failure asks for more.
            if sum_is_finite(x):
                continue
            bad = (~x.flatten(1).isfinite().all(1)).nonzero()[:, 0] + start
            if len(bad):
                raise NonFiniteError(
                    f"{name} are not finite for {len(bad)} samples of a batch, the first of them "
                    f"at {bad[:5].tolist()}: look at these inputs, or use precision='fp32'"
                )
        self._finite = True


def log_mean_probabilities(logits: Sequence[Float[Tensor, "n c"]]) -> Float[Tensor, "n c"]:
    """Logarithm of the mean of the members' softmax probabilities, float32."""
    return log_mean(torch.stack([z.double().log_softmax(1) for z in logits])).float()


def log_mean(log_q: Float64[Tensor, "m n c"]) -> Float64[Tensor, "n c"]:
    """``log q`` of the mean of the members' probabilities; that of equal members to the bit."""
    top = log_q.amax(0)
    return (log_q - top).exp().mean(0).log() + top
