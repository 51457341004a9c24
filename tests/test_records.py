"""Records: what is written is read back, and what does not hold is refused before it is written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from offmap._utils import records
from offmap._utils.arguments import positive, share, whole
from offmap._utils.imports import imported
from offmap.errors import ArgumentError, StoreError, UnknownNameError


class Note(records.Record, frozen=True, kw_only=True):
    """A kind of record."""

    text: str


def test_a_record_is_read_back_as_its_kind(tmp_path: Path) -> None:
    tensors = {"x": torch.arange(3.0)}
    records.write(tmp_path, "note", {"text": "a"}, {"state": tensors}, schema=Note)
    plain, files = records.read(tmp_path, "note")
    note, again = records.read(tmp_path, "note", schema=Note, made_by="offmap note")
    assert plain["text"] == note.text == "a"
    assert torch.equal(files["state"]["x"], tensors["x"])
    assert torch.equal(again["state"]["x"], tensors["x"])


def test_names_that_are_not_utf8_can_be_read_back(tmp_path: Path) -> None:
    """A record with the name of such a file was written, and no reader took it again."""
    names = [os.fsdecode(b"caf\xe9"), {os.fsdecode(b"\xff"): 1}]
    records.write(tmp_path, "note", {"text": os.fsdecode(b"\xff.png"), "names": names}, {})
    content, _ = records.read(tmp_path, "note")
    assert (content["text"], content["names"]) == (r"\xff.png", [r"caf\xe9", {r"\xff": 1}])


def test_files_may_have_names_of_their_own(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        tensors = {"weights": {"x": torch.tensor(value)}}
        names = {"weights": "mine.safetensors"}
        records.write(tmp_path, "note", {"text": "a"}, tensors, stem="mine", names=names)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.json", "mine.safetensors"]
    note = records.read_record(tmp_path / "mine.json", "note", Note)
    found = records.read_tensors(tmp_path / "mine.safetensors", note.files["weights"].sha256)
    assert found["x"] == 2.0


def test_what_never_ends_is_not_read(tmp_path: Path) -> None:
    """A folder of others may hold a link to a device, or a pipe."""
    records.write(tmp_path, "note", {"text": "a"}, {"state": {"x": torch.ones(1)}})
    (file,) = tmp_path.glob("*.safetensors")
    for path in (file, tmp_path / "note.json"):
        path.unlink()
        path.symlink_to("/dev/null")
        with pytest.raises(StoreError, match=rf"{path.name} cannot be read: it is a device or a"):
            records.read(tmp_path, "note")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, r"missing required field `text`"),
        ({"text": 3}, r"Expected `str`, got `int` - at `\$.text`"),
        ({"text": "a", "more": 1}, r"unknown field `more`"),
    ],
)
def test_what_does_not_hold_is_neither_written_nor_read(
    tmp_path: Path, record: dict[str, object], message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        records.write(tmp_path, "note", record, {"state": {"x": torch.ones(1)}}, schema=Note)
    assert not list(tmp_path.iterdir())
    records.write(tmp_path, "note", record, {})
    with pytest.raises(StoreError, match=rf"note\.json.*{message}.*make it anew with `offmap n`"):
        records.read(tmp_path, "note", schema=Note, made_by="offmap n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"version": 1},
            "version 1, and this offmap reads version 2: make it anew with `offmap n`",
        ),
        ({"version": 3}, "needs a newer offmap"),
        ({"version": True}, "version True"),
        ({"format": "offmap card"}, "is no note record"),
        ({"files": {"a": {"name": "../a.safetensors", "sha256": "0" * 64}}}, "files"),
        ({"files": {"a": {"name": "a.safetensors\n", "sha256": "0" * 64}}}, "files"),
        ({"files": {"a": {"name": "a.safetensors", "sha256": "0" * 64}}}, "cannot be read"),
    ],
)
def test_records_that_are_not_ours_are_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    records.write(tmp_path, "note", {"text": "a"}, {})
    path = tmp_path / "note.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(StoreError, match=message):
        records.read(tmp_path, "note", made_by="offmap n")


def test_a_folder_without_a_record_says_what_makes_one(tmp_path: Path) -> None:
    missing = rf"{tmp_path} holds no note, there is no note\.json: `offmap n` makes one"
    with pytest.raises(StoreError, match=missing):
        records.read(tmp_path, "note", made_by="offmap n")


def test_a_record_without_a_stamp_is_an_older_one(tmp_path: Path) -> None:
    (tmp_path / "note.json").write_text('{"text": "a"}')
    with pytest.raises(StoreError, match=r"no stated version.*make it anew"):
        records.read(tmp_path, "note")


def test_numbers_that_are_none_are_refused() -> None:
    assert whole("k", torch.tensor(3)) == 3
    for wrong in (True, 0, 1.0, "1", None, [1]):
        with pytest.raises(ArgumentError, match="k must be a whole number of at least 1; seen"):
            whole("k", wrong)
    for check, range_ in ((share, r"lie in \[0, 1\)"), (positive, "be a number above 0")):
        assert check("p", 0.5) == check("p", np.float32(0.5)) == 0.5
        for wrong in (True, -0.5, float("nan"), float("inf"), "1", None, [0.5], 10**400):
            with pytest.raises(ArgumentError, match=f"p must {range_}; seen"):
                check("p", wrong)


def test_names_are_imported_from_modules_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("from beside import VALUE\n")
    (tmp_path / "beside.py").write_text("VALUE = 3\n")
    assert imported("json", "dumps", "json:dumps") is json.dumps
    assert imported(str(tmp_path / "mine.py"), "VALUE", "mine.py:VALUE") == 3
    (tmp_path / "below").mkdir()
    for folder, place in ((".", "./mine.py"), ("below", "../mine.py")):
        monkeypatch.chdir(tmp_path / folder)
        assert imported(place, "VALUE", f"{place}:VALUE") == 3
    for place, name in (
        ("json", "no"),
        (".json", "dumps"),
        ("no_such_module", "x"),
        (str(tmp_path / "no.py"), "x"),
    ):
        with pytest.raises(UnknownNameError, match="the text"):
            imported(place, name, "the text")


def test_a_file_is_written_where_its_mode_cannot_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.chmod", refuse)
    records.write(tmp_path, "note", {"text": "a"}, {"state": {"x": torch.arange(3.0)}})
    note, files = records.read(tmp_path, "note", schema=Note)
    assert (note.text, files["state"]["x"].tolist()) == ("a", [0.0, 1.0, 2.0])
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]
