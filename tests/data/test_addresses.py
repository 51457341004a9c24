"""Images and rows of object stores, by address: the same as of a folder with the same files."""

from __future__ import annotations

import json
import pickle
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from offmap import data
from offmap._utils.addresses import Remote, is_address
from offmap.data import _decode
from offmap.data._read_rows import read_rows
from offmap.errors import ArgumentError, DataError, DataNotFoundError, LeftOutWarning

NAMES = ("cat/1.png", "cat/2 with space.png", "dog/%20#3?.png", "dog/deep/4.png")


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content := BytesIO(), "PNG")
    return content.getvalue()


@pytest.fixture
def files() -> dict[str, bytes]:
    return {name: picture(i) for i, name in enumerate(NAMES)}


ON_WINDOWS = pytest.mark.skipif(sys.platform == "win32", reason="a drive is no part of an address")


@pytest.fixture(params=["memory", pytest.param("file", marks=ON_WINDOWS)])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty store, of fsspec's or of Arrow's own."""
    yield "memory://bucket/photos" if request.param == "memory" else f"file://{tmp_path}/photos"
    fsspec.filesystem("memory").store.clear()


def put(root: str, files: dict[str, bytes]) -> None:
    scheme, _, path = root.partition("://")
    store = fsspec.filesystem(scheme)
    for name, content in files.items():
        store.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
        store.pipe(f"{path}/{name}", content)


def folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def test_a_folder_of_a_store_is_the_set_of_a_folder(
    root: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    put(root, files | {"cat/.hidden.png": b"", "@eaDir/5.png": b"", "dog/notes.txt": b"x"})
    here = data.load(folder(tmp_path / "here", files), size=5)
    with pytest.warns(LeftOutWarning, match=r"1 \.txt, first .*dog/notes\.txt"):
        there = data.load(root, size=5)
    assert torch.equal(there.images, here.images)
    assert torch.equal(there.labels, here.labels)
    assert there.classes == here.classes == ("cat", "dog")
    assert there.keys(0, 4) == here.keys(0, 4) == NAMES


def test_a_streamed_set_of_a_store_travels_as_its_addresses(
    root: str, files: dict[str, bytes]
) -> None:
    put(root, files)
    streamed = data.load(root, size=5, keep_in_memory_bytes=0)
    again = pickle.loads(pickle.dumps(streamed))
    assert isinstance(again, data.StreamedSet)
    assert torch.equal(again.hold().images, data.load(root, size=5).images)


def test_a_parquet_file_of_a_store(root: str, files: dict[str, bytes], tmp_path: Path) -> None:
    table = pa.table({"image": list(files.values()), "label": [0, 0, 1, 1]})
    pq.write_table(table, content := BytesIO())
    put(root, {"test.parquet": content.getvalue()})
    pq.write_table(table, tmp_path / "test.parquet")
    there, here = data.load(f"{root}/test.parquet"), data.load(tmp_path / "test.parquet")
    assert torch.equal(there.images, here.images)
    assert torch.equal(there.labels, here.labels)


def test_images_to_score_are_named_by_their_addresses(root: str, files: dict[str, bytes]) -> None:
    put(root, files | {"dog/broken.png": b"no image"})
    found = dict(data.read_images([root], (3, 5, 5)))
    one = f"{root}/cat/1.png"
    assert list(found)[:2] == [one, f"{root}/cat/2 with space.png"]
    assert isinstance(found[f"{root}/dog/broken.png"], data.Skipped)
    assert torch.equal(found[one], dict(data.read_images([one], (3, 5, 5)))[one])
    # Each name leads back to its file, whatever it is made of.
    for name, image in found.items():
        if not isinstance(image, data.Skipped):
            assert torch.equal(dict(data.read_images([name], (3, 5, 5)))[name], image)


def test_a_sign_that_would_cut_an_address_is_refused(root: str, files: dict[str, bytes]) -> None:
    """Else another folder would be read, and nobody told."""
    put(root, files)
    put(f"{root}#1", {"only.png": picture(9)})
    for cut in (f"{root}#1", f"{root}?1"):
        with pytest.raises(ArgumentError, match=r"write %"):
            data.load(cut)
        with pytest.raises(ArgumentError, match=r"write %"):
            list(data.read_images([cut], (3, 5, 5)))
    assert len(data.load(f"{root}%231", size=5)) == 1


def test_a_store_is_read_by_more_threads_than_there_are_processors(
    root: str, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for answers more than they decode; but a limit that was set holds."""
    put(root, {f"{i:03}.png": files["cat/1.png"] for i in range(200)})
    seen: set[int] = set()
    plain = Remote.read_bytes

    def waiting(self: Remote) -> bytes:
        seen.add(threading.get_ident())
        time.sleep(0.01)
        return plain(self)

    monkeypatch.setattr(Remote, "read_bytes", waiting)
    for processors, limit, most in ((2, None, 16), (2, 3, 3)):
        seen.clear()
        monkeypatch.setattr("os.cpu_count", lambda n=processors: n)
        monkeypatch.setattr(_decode, "_threads", limit)
        assert len(list(data.read_images([root], (3, 5, 5)))) == 200
        assert most / 2 <= len(seen) <= most


def test_rows_of_a_store(root: str) -> None:
    lines = b"\n".join(json.dumps({"x": [i, 2.5]}).encode() for i in range(3))
    pq.write_table(pa.table({"x": [[0.0, 2.5], [1.0, 2.5]]}), content := BytesIO())
    put(root, {"rows.jsonl": lines, "rows.parquet": content.getvalue()})
    rows = [row["x"].tolist() for _, row in read_rows([f"{root}/rows.jsonl"], ())]
    assert rows == [[0, 2.5], [1, 2.5], [2, 2.5]]
    rows = [row["x"].tolist() for _, row in read_rows([f"{root}/rows.parquet"], ())]
    assert rows == [[0, 2.5], [1, 2.5]]


def test_a_table_elsewhere_reads_no_file_of_this_machine(root: str, tmp_path: Path) -> None:
    (tmp_path / "own.png").write_bytes(picture(0))
    cell = {"bytes": None, "path": str(tmp_path / "own.png")}
    table = pa.table({"image": [cell, {"bytes": picture(1), "path": None}]})
    pq.write_table(table, content := BytesIO())
    put(root, {"test.parquet": content.getvalue()})
    with pytest.warns(LeftOutWarning, match="no image is stored here"):
        assert len(data.load(f"{root}/test.parquet", size=5)) == 1


def test_what_is_not_there_is_told(root: str, files: dict[str, bytes]) -> None:
    put(root, {"notes.txt": b"x"})
    with pytest.raises(DataNotFoundError, match="nothing does not exist: look at the address"):
        data.load(f"{root}/nothing")
    with pytest.raises(DataNotFoundError, match="does not exist"):
        list(data.read_images([f"{root}/nothing.png"], (3, 5, 5)))
    with pytest.raises(DataError, match=r"holds no images; .*1 \.txt"):
        data.load(root)
    with pytest.raises(DataError, match=r"folders of images and \.parquet are read"):
        data.load(f"{root}/notes.txt")


def test_a_secret_in_an_address_is_refused_and_not_repeated() -> None:
    queries = ("secret_key", "Secret_Key", "region=eu&account_key", "X-Amz-Signature", "sas_token")
    for address in ("s3://key:hush@bucket/x", *(f"s3://bucket/x?{q}=hush" for q in queries)):
        with pytest.raises(ArgumentError, match="AWS_SECRET_ACCESS_KEY") as caught:
            data.load(address)
        assert "hush" not in str(caught.value)


def test_an_address_that_nothing_reads_is_told() -> None:
    with pytest.raises(ArgumentError, match="read by neither Arrow nor fsspec"):
        data.load("nonsense://bucket/photos")


def test_what_is_an_address() -> None:
    assert all(map(is_address, ("s3://b", "gs://b/x", "GS://b", "abfs+x://b")))
    assert not any(
        map(is_address, ("c://b", "photos", "hf:owner/name", Path("s3://b"), "a/s3://b"))
    )
    assert Remote("s3://b/x/y.JPG?region=eu").name == "y.JPG"
    assert str(Remote("s3://b/x?region=eu").file("y.jpg")) == "s3://b/x/y.jpg?region=eu"
