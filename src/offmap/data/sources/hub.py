"""Data sets of the Hugging Face hub, or of a local folder in its layout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from offmap._utils.arguments import did_you_mean
from offmap._utils.hub import SECONDS, offline
from offmap.data._decode import Item
from offmap.data._labels import as_labels
from offmap.data._named_sets import named_sets
from offmap.data.sources import Source
from offmap.data.sources.parquet import as_raw
from offmap.data.types import Labels
from offmap.errors import DataError, DataNotFoundError, MissingExtraError

_CHUNK = 64  # rows a query
_SAME = {"valid": "val", "validation": "val"}


@dataclass(frozen=True, eq=False)
class Hub(Source):
    """One split; ``images`` is a ``datasets.Dataset`` of the undecoded image column alone.

    Images that are files of their own lie in ``folders``: no others are read.
    """

    where: str
    images: Any
    labels: Labels
    classes: tuple[str, ...]
    folders: tuple[Path, ...]

    @classmethod
    def open(
        cls,
        repository: str,
        split: str | None = None,
        *,
        config: str | None = None,
        image: str | None = None,
        label: str | None = None,
    ) -> Self:
        """Download if need be, and read the labels.

        Args:
            repository: ``owner/name``, or a local folder.
            split: as in :func:`choose_split`.
            config: which of the repository's sets.
            image: column of images; if it is not there, the first of that type.
            label: column of labels; if it is not there, the first of type ClassLabel, if any.

        Raises:
            MissingExtraError: the library ``datasets`` is not installed.
            DataNotFoundError: nothing there, or no such split.
            DataError: no column of images.
        """
        datasets = library()
        where = f"hf:{repository}"
        try:
            with _hub_or_cache(repository):
                splits = datasets.get_dataset_split_names(repository, config)
                split = choose_split(splits, split, where)
                data = datasets.load_dataset(repository, config, split=split)
        except DataNotFoundError:
            raise
        except Exception as error:  # of network, hub, cache or files, each with its own types
            raise DataNotFoundError(f"{where} cannot be loaded: {error}") from error
        where = f"{where}:{split}"
        image = _column(data, image, datasets.Image)
        label = _column(data, label, datasets.ClassLabel)
        if image is None:
            columns = ", ".join(f"{name} ({kind})" for name, kind in data.features.items())
            raise DataError(f"{where} has no column of images: its columns are {columns}")
        images = data.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        folders: tuple[Path, ...] = (Path(repository),)
        if not folders[0].is_dir():
            cache = import_module("huggingface_hub").constants.HF_HUB_CACHE
            folders = (datasets.config.EXTRACTED_DATASETS_PATH, Path(cache))
        if label is None:
            return cls(where, images, None, (), folders)
        names = getattr(data.features[label], "names", ())
        labels, classes = as_labels(data.select_columns([label])[:][label], where, names)
        return cls(where, images, labels, classes, folders)

    def __len__(self) -> int:
        return len(self.images)

    def read(self, rows: Iterable[int]) -> Iterator[Item]:
        """Undecoded: the rules for pixels are the same for all sources."""
        rows = iter(rows)
        column = self.images.column_names[0]
        while chunk := list(islice(rows, _CHUNK)):
            for row, cell in zip(chunk, self.images[chunk][column], strict=True):
                yield f"{self.where} row {row}", as_raw(cell, self.folders)


def library() -> ModuleType:
    """The optional library ``datasets``."""
    try:
        return import_module("datasets")
    except ImportError as error:
        raise MissingExtraError("datasets", "hub") from error


def choose_split(splits: Iterable[str], name: str | None, where: str) -> str:
    """The split of that name; without one ``test``, else ``val``, else the only one.

    ``val``, ``valid`` and ``validation`` are one name, unless the set has several of them.

    Raises:
        DataNotFoundError: no such split, or several of that name, or several and none named.

    >>> choose_split(["train", "valid"], None, where="here")
    'valid'
    """
    splits = list(splits)
    if name in splits:
        return name
    for candidate in (name,) if name else ("test", "val"):
        wanted = _SAME.get(candidate, candidate)
        matches = [split for split in splits if _SAME.get(split, split) == wanted]
        if len(matches) > 1:
            raise DataNotFoundError(
                f"{where} has splits {' and '.join(sorted(matches))}, and {candidate!r} may mean "
                "either: name one of them, as in NAME:SPLIT"
            )
        if matches:
            return matches[0]
    if name is None and len(splits) == 1:
        return splits[0]
    missing = f"split {name!r}" if name else "split 'test' or 'val', and several others"
    names = ", ".join(sorted(splits)) or "none"
    raise DataNotFoundError(f"{where} has no {missing}: name one of {names}, as in NAME:SPLIT")


@contextmanager
def _hub_or_cache(repository: str) -> Iterator[None]:
    """Ask the hub once for a repository; without an answer, only its copy on this disk is read.

    Left to itself, the library ``datasets`` tries for half a minute before it says that nothing is
    there.

    Raises:
        DataNotFoundError: the hub has no such repository; or no answer, and no copy is here.
    """
    if Path(repository).is_dir():
        yield
        return
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils import RepositoryNotFoundError  # type: ignore[attr-defined]

    try:
        HfApi().dataset_info(repository, timeout=SECONDS)
    except RepositoryNotFoundError as error:
        raise DataNotFoundError(
            f"the hub has no data set {repository!r}, or not for everyone: "
            f"{_hint(repository)}look at huggingface.co/datasets"
        ) from error
    except Exception as error:  # of the network, each version of the client with its own types
        with offline(library().config, constants):
            try:
                yield
            except DataNotFoundError:
                raise
            except Exception as failure:
                raise DataNotFoundError(
                    f"hf:{repository} cannot be loaded: {_hint(repository)}the hub gave no answer "
                    f"within {SECONDS:g} seconds ({error}), and no copy is in its cache here "
                    f"({failure})"
                ) from failure
    else:
        yield


def _hint(repository: str) -> str:
    """The repository of a named set that was meant, if it is another."""
    repositories = [entry.repository for entry in named_sets().values() if entry.repository]
    return "" if repository in repositories else did_you_mean(repository, repositories)


def _column(data: Any, name: str | None, kind: type) -> str | None:
    typed = (column for column, feature in data.features.items() if isinstance(feature, kind))
    return name if name in data.features else next(typed, None)
