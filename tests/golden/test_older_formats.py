"""Files of earlier formats are refused in words that name the command which makes them anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from offmap.errors import StoreError
from offmap.networks import zoo
from offmap.training import finished, recipe_of

GOLDEN = Path(__file__).parent


def test_an_older_card_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFMAP_ZOO", str(tmp_path))
    shutil.copy(GOLDEN / "card.json", tmp_path / "older.json")
    for use in (zoo.card, zoo.load):
        with pytest.raises(StoreError, match=r"older\.json .*make it anew with `offmap publish`"):
            use("older")


def test_an_older_run_is_refused(tmp_path: Path) -> None:
    for name in ("card.json", "run.json"):  # a run was stated in the same way
        shutil.copy(GOLDEN / "card.json", tmp_path / name)
    for use in (finished, recipe_of):
        with pytest.raises(StoreError, match=r"json .*make it anew with `offmap train`"):
            use(tmp_path)
