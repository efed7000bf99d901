"""The entries of an LMDB file, found page by page with every number in it checked.

The LMDB library maps a file into memory and trusts the numbers in it: a damaged file kills the process. Here a file is
read by offsets: memory does not grow with its size, and descriptors may be shared by processes.

Source: the layout of pages of LMDB (Chu, Symas 2011), data version 1, 64 bit, little-endian.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from carten.errors import DataError

_MAGIC, _VERSION = 0xBEEFC0DE, 1
_HEADER = 16  # bytes before the contents of a page
_BRANCH, _LEAF, _OVERFLOW, _META = 0x01, 0x02, 0x04, 0x08
_BIG, _SUB, _DUPLICATE = 0x01, 0x02, 0x04  # flags of entries
_NONE = 2**64 - 1  # page number of an empty tree
_DEEPEST = 32  # levels of a tree
_LARGEST_PAGE = 2**16


class Place(NamedTuple):
    """Where a value stands in a file.

    Args:
        key: under which it is.
        start: offset of its first byte.
        size: in bytes.
    """

    key: bytes
    start: int
    size: int


class Pages:
    """An LMDB file that is open for reading.

    Attributes:
        entries: how many it announces.
        transaction: number of the last one that was written; it grows with every change.

    Raises:
        DataError: the file is no LMDB file, or is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise DataError(f"{path}: cannot be opened: {error.strerror}") from error
        size = os.fstat(self._file).st_size
        try:
            meta = max(self._metas(), key=lambda meta: meta.transaction)
            if (end := (meta.last_page + 1) * meta.page_size) > size:
                raise DataError(f"{path}: cut off: it has {size} of {end} bytes; copy it again")
        except (struct.error, ValueError) as error:
            raise self._damaged(error) from error
        self._meta = meta
        self._visited = 0
        self.entries, self.transaction = meta.entries, meta.transaction

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def read(self, start: int, size: int) -> bytes:
        """Bytes of the file, fewer at its end."""
        return os.pread(self._file, size, start)

    def places(self) -> Iterator[Place]:
        """Where the values of the main database are, ordered as the file orders keys.

        Raises:
            DataError: the file is damaged.
        """
        self._visited = count = 0
        try:
            if self._meta.root != _NONE:
                for place in self._tree(self._meta.root, 0):
                    count += 1
                    yield place
        except (struct.error, ValueError) as error:
            raise self._damaged(error) from error
        if count != self.entries:
            raise DataError(f"{self.path}: damaged: it announces {self.entries} entries, found {count}; copy it again")

    def _damaged(self, error: Exception) -> DataError:
        if isinstance(error, DataError):
            return error
        return DataError(f"{self.path}: cannot be read as LMDB, it is damaged: {error}")

    def _metas(self) -> list[_Meta]:
        """The two descriptions of the file, of which the one written last holds."""
        first = _meta(self.read(0, _LARGEST_PAGE))
        try:
            return [first, _meta(self.read(first.page_size, _LARGEST_PAGE))]
        except (struct.error, ValueError):
            return [first]

    def _tree(self, number: int, level: int) -> Iterator[Place]:
        """Entries below a page."""
        size, last_page = self._meta.page_size, self._meta.last_page
        self._visited += 1
        if not 2 <= number <= last_page or self._visited > last_page or level > _DEEPEST:
            raise ValueError(f"page {number} is not where it should be")
        page = self.read(number * size, size)
        page_number, _, flags, lower, _ = struct.unpack_from("<QHHHH", page)
        if page_number != number or not flags & (_BRANCH | _LEAF) or not _HEADER <= lower <= size or lower % 2:
            raise ValueError(f"page {number} is damaged")
        for offset in struct.unpack_from(f"<{(lower - _HEADER) // 2}H", page, _HEADER):
            if not lower <= offset <= size - 8:
                raise ValueError(f"page {number} has an entry outside of it")
            low, high, node_flags, key_size = struct.unpack_from("<HHHH", page, offset)
            if flags & _BRANCH:
                yield from self._tree(low | high << 16 | node_flags << 32, level + 1)
            else:
                start = offset + 8 + key_size
                key = page[offset + 8 : start]
                yield Place(key, *self._value(page, node_flags, number * size, start, low | high << 16))

    def _value(self, page: bytes, flags: int, page_start: int, start: int, length: int) -> tuple[int, int]:
        """Place of the value of an entry, in its page or in separate pages."""
        size, last_page = self._meta.page_size, self._meta.last_page
        room = size - start
        if flags & (_SUB | _DUPLICATE):
            raise ValueError("it holds several databases, or several values of one key")
        if not flags & _BIG:
            start += page_start
        else:
            (number,) = struct.unpack_from("<Q", page, start)
            if not 2 <= number <= last_page:
                raise ValueError(f"page {number} is not where it should be")
            page_number, _, page_flags, n_pages = struct.unpack("<QHHI", self.read(number * size, _HEADER))
            if page_number != number or not page_flags & _OVERFLOW or number + n_pages - 1 > last_page:
                raise ValueError(f"page {number} is damaged")
            start, room = number * size + _HEADER, n_pages * size - _HEADER
        if not 0 <= length <= room:
            raise ValueError("a value does not fit into its page")
        return start, length


class _Meta(NamedTuple):
    page_size: int
    entries: int
    root: int
    last_page: int
    transaction: int


def _meta(page: bytes) -> _Meta:
    flags = struct.unpack_from("<H", page, 10)[0]
    magic, version = struct.unpack_from("<II", page, _HEADER)
    if magic != _MAGIC or version != _VERSION or not flags & _META:
        raise ValueError("it does not begin as LMDB files do")
    page_size, *_ = struct.unpack_from("<IHH", page, _HEADER + 24)
    n_entries, root = struct.unpack_from("<QQ", page, _HEADER + 72 + 32)
    last_page, transaction = struct.unpack_from("<QQ", page, _HEADER + 120)
    if not (256 <= page_size <= _LARGEST_PAGE and page_size & (page_size - 1) == 0):
        raise ValueError(f"its pages have {page_size} bytes")
    return _Meta(page_size, n_entries, root, last_page, transaction)
