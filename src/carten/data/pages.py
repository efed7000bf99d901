"""The entries of an LMDB file, read page by page with every number in it checked.

The LMDB library maps a file into memory and trusts the numbers in it: a damaged file kills the process.

Source: the layout of pages of LMDB (Chu, Symas 2011), data version 1, 64 bit, little-endian.
"""

from __future__ import annotations

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


class _Meta(NamedTuple):
    page_size: int
    depth: int
    entries: int
    root: int
    last_page: int
    transaction: int


def entries(path: Path) -> list[tuple[bytes, bytes]]:
    """Keys and values of the main database of a file, ordered as the file orders keys.

    Raises:
        DataError: the file is no LMDB file, is cut off or damaged.
    """
    data = path.read_bytes()
    try:
        meta = max(_metas(data), key=lambda meta: meta.transaction)
        if (meta.last_page + 1) * meta.page_size > len(data):
            size = (meta.last_page + 1) * meta.page_size
            raise DataError(f"{path}: cut off: it has {len(data)} of {size} bytes; copy it again")
        items = [] if meta.root == _NONE else list(_tree(data, meta, meta.root, 0, set()))
    except (struct.error, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read as LMDB, it is damaged: {error}") from error
    if len(items) != meta.entries:
        raise DataError(f"{path}: damaged: it announces {meta.entries} entries, found {len(items)}; copy it again")
    return items


def _metas(data: bytes) -> list[_Meta]:
    """The two descriptions of the file, of which the one written last holds."""
    first = _meta(data, 0)
    try:
        return [first, _meta(data, first.page_size)]
    except (struct.error, ValueError):
        return [first]


def _meta(data: bytes, start: int) -> _Meta:
    flags = struct.unpack_from("<H", data, start + 10)[0]
    magic, version = struct.unpack_from("<II", data, start + _HEADER)
    if magic != _MAGIC or version != _VERSION or not flags & _META:
        raise ValueError("it does not begin as LMDB files do")
    page_size, *_ = struct.unpack_from("<IHH", data, start + _HEADER + 24)
    _, _, depth, _, _, _, n_entries, root = struct.unpack_from("<IHHQQQQQ", data, start + _HEADER + 72)
    last_page, transaction = struct.unpack_from("<QQ", data, start + _HEADER + 120)
    if not (256 <= page_size <= 2**16 and page_size & (page_size - 1) == 0):
        raise ValueError(f"its pages have {page_size} bytes")
    return _Meta(page_size, depth, n_entries, root, last_page, transaction)


def _tree(data: bytes, meta: _Meta, number: int, level: int, seen: set[int]) -> Iterator[tuple[bytes, bytes]]:
    """Entries below a page."""
    if not 2 <= number <= meta.last_page or number in seen or level > _DEEPEST:
        raise ValueError(f"page {number} is not where it should be")
    seen.add(number)
    start = number * meta.page_size
    own_number, _, flags, lower, _ = struct.unpack_from("<QHHHH", data, start)
    if own_number != number or not flags & (_BRANCH | _LEAF) or not _HEADER <= lower <= meta.page_size or lower % 2:
        raise ValueError(f"page {number} is damaged")
    for offset in struct.unpack_from(f"<{(lower - _HEADER) // 2}H", data, start + _HEADER):
        if not lower <= offset <= meta.page_size - 8:
            raise ValueError(f"page {number} has an entry outside of it")
        low, high, node_flags, key_size = struct.unpack_from("<HHHH", data, start + offset)
        if flags & _BRANCH:
            yield from _tree(data, meta, low | high << 16 | node_flags << 32, level + 1, seen)
        else:
            key_start = start + offset + 8
            value_start = key_start + key_size
            room = start + meta.page_size - value_start
            yield data[key_start:value_start], _value(data, meta, node_flags, value_start, low | high << 16, room)


def _value(data: bytes, meta: _Meta, flags: int, start: int, size: int, room: int) -> bytes:
    """The value of an entry, in its page or in separate pages."""
    if flags & (_SUB | _DUPLICATE):
        raise ValueError("it holds several databases, or several values of one key")
    if flags & _BIG:
        (number,) = struct.unpack_from("<Q", data, start)
        if not 2 <= number <= meta.last_page:
            raise ValueError(f"page {number} is not where it should be")
        own_number, _, page_flags, n_pages = struct.unpack_from("<QHHI", data, number * meta.page_size)
        if own_number != number or not page_flags & _OVERFLOW or number + n_pages - 1 > meta.last_page:
            raise ValueError(f"page {number} is damaged")
        start, room = number * meta.page_size + _HEADER, n_pages * meta.page_size - _HEADER
    if not 0 <= size <= room:
        raise ValueError("a value does not fit into its page")
    return data[start : start + size]
