"""How long passes over many structures take, told while they run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Say = Callable[[str], None]
"""Takes a line for the user."""
Item = TypeVar("Item")

FIRST, EVERY = 3.0, 10.0
"""Seconds before the first line, and between lines."""


def silent(line: str) -> None:
    """Say nothing."""


def counted(items: Iterable[Item], title: str, total: int | None, say: Say) -> Iterator[Item]:
    """The items; while they pass by, lines such as ``reading a.extxyz: 20,000 of 100,000, 12 s, 48 s to go``."""
    began = time.monotonic()
    following = began + FIRST
    for count, item in enumerate(items):
        if count % 16 == 0 and (now := time.monotonic()) >= following:
            following = now + EVERY
            say(f"{title}: {_status(count, total, now - began)}")
        yield item


def _status(count: int, total: int | None, elapsed: float) -> str:
    if not total or not count:
        return f"{count:,}, {elapsed:.0f} s"
    return f"{count:,} of {total:,}, {elapsed:.0f} s, {elapsed * (total - count) / count:.0f} s to go"
