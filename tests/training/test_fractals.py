from __future__ import annotations

from pathlib import Path

import pytest
import torch

from offmap.errors import ArgumentError, OffmapWarning
from offmap.training.fractals import fractals


def test_a_seed_gives_the_same_bits_and_another_seed_others() -> None:
    first, again, other = (fractals(4, 24, seed=seed) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.shape == (3, 24, 24)
    assert first.images.dtype == torch.uint8
    assert first.labels is None


def test_the_first_of_many_are_those_of_few() -> None:
    assert torch.equal(fractals(50, 16).images[:5], fractals(5, 16).images)


def test_no_global_randomness_is_used() -> None:
    before = torch.get_rng_state()
    fractals(1, 8)
    assert torch.equal(torch.get_rng_state(), before)


def test_fractals_are_distinct_and_fill_their_pictures() -> None:
    x = fractals(64, 36).images.double()
    apart = torch.cdist(x.flatten(1), x.flatten(1)) / x[0].numel() ** 0.5
    assert apart.fill_diagonal_(torch.inf).min() > 20  # levels, root mean square
    lit = (x.amax(1) > 16).double().mean((1, 2))
    assert lit.min() > 0.35
    assert lit.mean() > 0.7
    assert x.std((2, 3)).amax(1).min() > 15  # none is flat
    # In colour: the channels differ by many levels somewhere.
    assert (x.amax(1) - x.amin(1)).amax((1, 2)).min() > 40


@pytest.mark.parametrize("size", [1, 2, 7, (9, 30)])
def test_any_size(size: int | tuple[int, int]) -> None:
    h, w = (size, size) if isinstance(size, int) else size
    assert fractals(2, size).images.shape == (2, 3, h, w)


def test_a_cache_that_cannot_be_written_costs_no_run(tmp_path: Path) -> None:
    """A training ended at that, with the pictures at hand."""
    (tmp_path / "file").touch()
    with pytest.warns(OffmapWarning, match="cannot be kept .*: they are drawn anew"):
        made = fractals(3, 16, seed=5, cache=tmp_path / "file")
    assert made.fingerprint == fractals(3, 16, seed=5).fingerprint


def test_a_cache_is_read_and_made_again_when_damaged(tmp_path: Path) -> None:
    made = fractals(3, 16, seed=5, cache=tmp_path / "new")
    (file,) = (tmp_path / "new").iterdir()
    assert file.name == "fractals-3-16x16-seed5-v1.safetensors"
    good, written = file.read_bytes(), file.stat().st_mtime_ns
    assert fractals(3, 16, seed=5, cache=file.parent).fingerprint == made.fingerprint
    assert file.stat().st_mtime_ns == written
    flipped = good[:-900] + bytes([good[-900] ^ 1]) + good[-899:]
    for damaged in (b"", good[:-1], good[: len(good) // 2], b"\0" * len(good), flipped):
        file.write_bytes(damaged)
        assert fractals(3, 16, seed=5, cache=file.parent).fingerprint == made.fingerprint
        assert file.read_bytes() == good
    assert list(file.parent.iterdir()) == [file]


def test_each_size_seed_and_number_has_its_own_file(tmp_path: Path) -> None:
    for n, size, seed in ((1, 8, 0), (2, 8, 0), (1, (8, 9), 0), (1, 8, 1)):
        fractals(n, size, seed=seed, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_errors_say_what_was_seen() -> None:
    with pytest.raises(ArgumentError, match="must be positive; seen 0 and 8"):
        fractals(0, 8)
    with pytest.raises(ArgumentError, match=r"seen 1 and \(8, 0\)"):
        fractals(1, (8, 0))
