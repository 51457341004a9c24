"""Samples worth looking at, under the recommended detector, with small pictures where there are."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from offmap.evaluation import Results
from offmap.guard.decide import p_values
from offmap.reporting.sections import Gallery, Sample, Section

# Decoders that are run on foreign files; of the others some start programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
_SIDE = 64  # of a picture at most
_EACH = 4  # of each OOD set
_ALL = 8  # of all sets together


def galleries(
    results: Results,
    detector: str,
    threshold: float | None,
    inputs: Mapping[str, Any],
    *,
    named: bool = True,
) -> list[Gallery]:
    """The most wrong of each OOD set, the strangest ID samples, and those near the threshold.

    Args:
        results: of the evaluation.
        detector: whose scores count.
        threshold: of it, if there is one.
        inputs: data sets by name, the ID set as "id", for pictures and names of classes.
        named: whether samples are called by their keys.
    """
    scores = results.scores[detector]
    sets = [name for names in results.groups.values() for name in names]
    wrong = [(name, i) for name in sets for i in _lowest(scores[name], _EACH)]
    strange = [("id", i) for i in _lowest(-np.asarray(scores["id"]), _ALL)]
    parts = [
        (f"OOD samples with the lowest {detector} scores, the most wrong first", wrong),
        (f"ID samples with the highest {detector} scores", strange),
    ]
    if threshold is not None:
        distances = {
            name: np.abs(np.asarray(scores[name], np.float64) - threshold) for name in ("id", *sets)
        }
        candidates = [(name, i) for name, of in distances.items() for i in _lowest(of, _ALL)]
        nearest = sorted(candidates, key=lambda each: float(distances[each[0]][each[1]]))[:_ALL]
        parts.append((f"Samples nearest to the threshold of {detector}", nearest))
    sample_of = _Samples(results, detector, inputs, named)
    return [
        Gallery(heading, [sample_of(name, i) for name, i in samples]) for heading, samples in parts
    ]


@dataclass(frozen=True)
class _Samples:
    """The samples of an evaluation as a gallery shows them, by set and row."""

    results: Results
    detector: str
    inputs: Mapping[str, Any]
    named: bool

    def __call__(self, name: str, i: int) -> Sample:
        scores, results = self.results.scores[self.detector], self.results
        keys, predictions = results.keys.get(name) or (), results.predictions.get(name)
        p_value = None
        if "calibration" in scores:
            # Copies: those of a file may not be written to, and torch warns of them.
            pair = np.array(scores[name][i : i + 1]), np.array(scores["calibration"])
            p_value = float(p_values(*pair)[0])
        prediction = ""
        if predictions is not None:
            label = int(predictions[i])
            prediction = self.classes.get(label, f"class {label}")
        key = str(keys[i]) if i < len(keys) else None
        return Sample(
            set="ID" if name == "id" else name,
            name=f"sample {i}" if key is None or key.isdigit() or not self.named else key,
            prediction=prediction,
            p_value=p_value,
            score=float(f"{float(scores[name][i]):.6g}"),
            image=self._picture(name, key),
        )

    def _picture(self, name: str, key: str | None) -> str:
        """A ``data:`` URI of the image with that key; empty where there is none."""
        data = self.inputs.get(name)
        if data is None or key is None or not hasattr(data, "keyed_batches"):
            return ""
        all_keys = data.keys(0, len(data))
        if key not in all_keys:  # other data than were evaluated
            return ""
        # By its key, not its row: images that could not be read have rows, and no scores.
        images, _, keys = next(iter(data.keyed_batches(1, start=all_keys.index(key))))
        if not isinstance(images, Tensor) or keys[0] != key:
            return ""
        image = images[0]
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            return ""
        x = image.detach().cpu().float()
        # Pixels are 0 to 255; floats, which may be normalised, are stretched to that.
        low, high = (float(x.min()), float(x.max())) if image.is_floating_point() else (0.0, 255.0)
        pixels = ((x - low) / max(high - low, 1e-12) * 255).round().to(torch.uint8)
        small = Image.fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy())
        small.thumbnail((_SIDE, _SIDE))
        return _uri(small)

    @cached_property
    def classes(self) -> dict[int, str]:
        """The names of the classes by the labels of the results.

        These count in the classes of the training data, of which the ID set may lack some: then the
        labels of its samples show which name belongs to which label.
        """
        data, true = self.inputs.get("id"), self.results.labels.get("id")
        own = dict(enumerate(map(str, getattr(data, "classes", None) or ())))
        labels = getattr(data, "labels", None)
        if data is None or labels is None or true is None or not hasattr(data, "keys"):
            return own
        label_of = dict(zip(data.keys(0, len(data)), labels.tolist(), strict=True))
        samples = zip(self.results.keys.get("id", ()), true.tolist(), strict=False)
        pairs = {(label, own[label_of[key]]) for key, label in samples if label_of.get(key) in own}
        by_label = dict(pairs)
        alike = all(own.get(label) == name for label, name in by_label.items())
        # Where labels do not map one to one, they say nothing.
        one_to_one = len(by_label) == len(set(by_label.values())) == len(pairs)
        return by_label if one_to_one and not alike else own


def _lowest(scores: Any, count: int) -> list[int]:
    return [int(i) for i in np.argsort(scores, kind="stable")[:count]]


def _uri(image: Image.Image) -> str:
    form = "PNG" if max(image.size) <= _SIDE // 2 else "JPEG"  # the smaller file of the two
    buffer = BytesIO()
    image.save(buffer, form, quality=85)
    return f"data:image/{form.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def picture_of_file(path: str) -> str:
    """A ``data:`` URI of an image file, upright and uncut; empty where there is none."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            image.draft("RGB", (2 * _SIDE, 2 * _SIDE))
            small = ImageOps.exif_transpose(image).convert("RGB")
            small.thumbnail((_SIDE, _SIDE))
            return _uri(small)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""


def without_pictures(section: Section) -> Section:
    """The same section, its galleries in words alone."""
    blocks = [
        replace(block, samples=[replace(sample, image="") for sample in block.samples])
        if isinstance(block, Gallery)
        else block
        for block in section.blocks
    ]
    return replace(section, blocks=blocks)
