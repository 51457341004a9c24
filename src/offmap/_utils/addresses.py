"""Files of object stores, by address, read by Arrow or fsspec."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from offmap.errors import ArgumentError, DataNotFoundError

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import fs

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # one letter is a drive
_SECRETS = ("key", "secret", "token", "password", "signature", "sig", "credential")  # in names
_PLAIN = "".join(c for c in map(chr, range(32, 127)) if c not in "%?#")  # need no quoting in names


@dataclass(frozen=True)
class Remote:
    """A file or folder by its address, such as ``s3://bucket/photos/1.jpg?region=eu-west-1``.

    Only the address is sent to other processes, each of which connects by itself. The part after
    the question mark holds settings of the connection, such as ``endpoint_override``.
    """

    address: str

    def __str__(self) -> str:
        return self.address

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePosixPath(_path_of(self.address)).name

    @property
    def suffix(self) -> str:
        """The suffix of the name."""
        return PurePosixPath(self.name).suffix

    def open(self) -> pa.NativeFile:
        """The file, open for reading at any position."""
        store, path = _connect(self.address)
        return store.open_input_file(path)

    def read_bytes(self) -> bytes:
        """All of the file."""
        with self.open() as file:
            content: bytes = file.read()
        return content

    @property
    def is_dir(self) -> bool:
        """Whether it is a folder, in most stores a prefix that files share.

        Raises:
            DataNotFoundError: there is nothing of that address, or no answer.
        """
        from pyarrow import fs

        store, path = _connect(self.address)
        try:
            kind = store.get_file_info(path).type
        except OSError as error:
            raise DataNotFoundError(f"{self.address} cannot be looked at: {error}") from error
        if kind == fs.FileType.NotFound:
            raise DataNotFoundError(f"{self.address} does not exist: look at the address")
        return bool(kind == fs.FileType.Directory)

    def below(self) -> tuple[str, ...]:
        """The files in a folder and below, by their relative paths, sorted."""
        from pyarrow import fs

        store, path = _connect(self.address)
        infos = store.get_file_info(fs.FileSelector(path, recursive=True))
        paths = (info.path.strip("/") for info in infos if info.type == fs.FileType.File)
        return tuple(sorted(file.removeprefix(f"{path.strip('/')}/") for file in paths))

    def file(self, path: str) -> Remote:
        """The file of that relative path."""
        parts = urlsplit(self.address)
        below = f"{parts.path.rstrip('/')}/{quote(path, safe=_PLAIN)}"
        return Remote(parts._replace(path=below).geturl())


def place(name: str) -> Path | Remote:
    """A file on this machine, or at an address."""
    return Remote(name) if is_address(name) else Path(name)


def is_address(spec: Any) -> bool:
    """Whether it is an address, not a path on this machine.

    >>> is_address("s3://bucket/photos"), is_address("photos/1.jpg")
    (True, False)
    """
    return isinstance(spec, str) and _ADDRESS.match(spec) is not None


def opened(file: Path | Remote) -> Any:
    """The input that Arrow reads: a path, or an open file of a store."""
    return file.open() if isinstance(file, Remote) else file


def _connect(address: str) -> tuple[fs.FileSystem, str]:
    """The store of an address, and the path in it."""
    parts = urlsplit(address)
    names = [name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if parts.password or any(word in name for name in names for word in _SECRETS):
        raise ArgumentError(
            f"an address with a secret in it ({parts.scheme}://...{parts.path}) would stand in "
            "results and logs: give secrets in the environment, such as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    if parts.fragment or (parts.query and parts.scheme == "file"):
        sign = "#" if parts.fragment else "?"
        raise ArgumentError(
            f"{address}: what stands behind {sign} would be left out of the path: write "
            f"{quote(sign)} for a {sign} in a name"
        )
    return _store(parts._replace(path="").geturl()), _path_of(address)


def _path_of(address: str) -> str:
    """The path in its store, where a bucket is the first part."""
    parts = urlsplit(address)
    path = unquote(parts.path)
    return f"{parts.netloc.rpartition('@')[2]}{path}".strip("/") if parts.netloc else path


@cache
def _store(root: str) -> fs.FileSystem:
    """One connection for each store and process."""
    import pyarrow as pa
    from pyarrow import fs

    parts = urlsplit(root)
    try:
        return fs.FileSystem.from_uri(root if parts.netloc else f"{root}/")[0]
    except pa.ArrowInvalid:
        if parts.query:
            raise ArgumentError(
                f"{parts.scheme}:// takes no {parts.query}: give settings in the environment, and "
                "write %3F for a ? in a name"
            ) from None
    try:  # of a kind that Arrow does not know
        import fsspec  # comes with torch

        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(parts.scheme)))
    except (ImportError, ValueError) as error:
        raise ArgumentError(
            f"{parts.scheme}:// is read by neither Arrow nor fsspec here ({error}): install what "
            "it names"
        ) from error
