"""The files of a form that is in memory; nothing is written to disk."""

from __future__ import annotations

from typing import Any

from python_multipart.multipart import MultipartParser, parse_options_header

from offmap.serve.refusals import Refusal

File = tuple[str, bytes]  # its name, and what it holds


class _Parts:
    """Callbacks of the parser, part by part; parts without a file name are fields."""

    def __init__(self, limit: int) -> None:
        self.files: list[File] = []
        self.fields, self.ended, self._limit = 0, False, limit
        self._header, self._value = b"", b""
        self._options: dict[bytes, bytes] = {}
        self._content = bytearray()

    def begin(self) -> None:
        self._options, self._content = {}, bytearray()
        if len(self.files) == self._limit:
            raise Refusal(400, f"there are too many files: send {self._limit:,} at most")

    def header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._options = parse_options_header(self._value)[1]
        self._header, self._value = b"", b""

    def data(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def part_end(self) -> None:
        name = self._options.get(b"filename")
        if name is None:
            self.fields += 1
        else:
            self.files.append((name.decode("utf-8", "replace")[:200], bytes(self._content)))

    def end(self) -> None:
        self.ended = True


def files_of_form(body: bytearray, content_type: str, limit: int) -> list[File]:
    """The files of a form, in order.

    Args:
        body: all of it.
        content_type: which says what stands between the parts.
        limit: how many files there may be.

    Raises:
        Refusal: it is no form, it is torn, or there are fields or too many files.
    """
    parts = _Parts(limit)
    callbacks: Any = {
        "on_part_begin": parts.begin,
        "on_header_field": parts.header,
        "on_header_value": parts.value,
        "on_header_end": parts.header_end,
        "on_part_data": parts.data,
        "on_part_end": parts.part_end,
        "on_end": parts.end,
    }
    try:
        boundary = parse_options_header(content_type.encode("latin-1"))[1][b"boundary"]
        parser = MultipartParser(boundary, callbacks)
        parser.write(bytes(body))
        parser.finalize()
    except Refusal:
        raise
    except Exception:  # foreign bytes make parsers raise nearly anything
        raise Refusal(400, "this is no form of files") from None
    if not parts.ended:
        raise Refusal(400, "the form has no end")
    if parts.fields:
        raise Refusal(400, "a form may hold files alone: there are other fields")
    return parts.files
