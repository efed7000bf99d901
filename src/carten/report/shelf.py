"""The files of a folder, and which of them a page has shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

MAX_FILES = 2000
"""Files of a folder that are looked at."""


class Shelf:
    """Files below a folder, in the order of their names; numbers in names count as numbers.

    Hidden files and folders, and what links lead to outside of it, do not belong to it.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        inside = [path for path in root.rglob("*") if path.is_file() and self._belongs(path)]
        inside.sort(key=lambda path: (len(path.relative_to(root).parts), natural(self.name(path))))
        self.left_out = max(0, len(inside) - MAX_FILES)
        self.files = inside[:MAX_FILES]
        self.shown: set[Path] = set()

    def _belongs(self, path: Path) -> bool:
        hidden = any(part.startswith(".") for part in path.relative_to(self.root).parts)
        return not hidden and path.resolve().is_relative_to(self.root.resolve())

    def name(self, path: Path) -> str:
        """A file as people call it: its path within the folder."""
        inside = path.relative_to(self.root).as_posix()
        return self.root.resolve().name if inside == "." else inside

    def take(self, path: Path) -> Path | None:
        """A file if there is one of this name; it counts as shown."""
        if path not in self.files or path in self.shown:
            return None
        self.shown.add(path)
        return path

    def take_below(self, folder: Path, patterns: Sequence[str]) -> int:
        """How many files of a folder match one of the patterns; they count as shown."""
        matching = {path for pattern in patterns for path in folder.glob(pattern)}
        return sum(self.take(path) is not None for path in self.files if path in matching)


def natural(name: str) -> list[tuple[bool, int, str]]:
    """A key that sorts ``mode 10`` after ``mode 9``."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]
