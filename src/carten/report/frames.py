"""Frames of extended XYZ files, a few of many: where frames begin is looked up in the file, the others are not read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, NamedTuple

import ase
import ase.io
import numpy as np

from carten.errors import DataError

MAX_FRAMES = 1000
"""Of a file, that are shown."""
MAX_ATOMS = 60_000
"""Of all frames of a file together."""
WHOLE = 30_000_000
"""Bytes up to which all frames of a file are counted."""
_LINE = 100_000
"""Bytes that no line of such a file is longer than."""


class FrameSample(NamedTuple):
    """Frames of a file, how many it has (``None``: not counted), and whether they are all."""

    frames: list[ase.Atoms]
    total: int | None
    complete: bool


def sample_frames(path: Path) -> FrameSample:
    """Frames at equal distances in an extended XYZ file; a last one that is cut off is left out.

    Raises:
        DataError: it has no complete frame, or is none.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE:
            starts = _all_starts(file, path)
            chosen, total = starts, len(starts)
        else:
            places = (_next_start(file, int(size * k / MAX_FRAMES)) for k in range(MAX_FRAMES))
            chosen, total = sorted({start for start in places if start is not None}), None
        frames: list[ase.Atoms] = []
        if chosen:
            first = _frame(file, chosen[0], path)
            most = max(1, min(MAX_FRAMES, MAX_ATOMS // max(len(first), 1)))
            if len(chosen) > most:
                chosen = [chosen[k] for k in np.unique(np.linspace(0, len(chosen) - 1, most).astype(int))]
            frames = [_frame(file, start, path) for start in chosen]
    if not frames:
        raise DataError(f"{path}: holds no frame of extended XYZ")
    return FrameSample(frames, total, len(frames) == total)


def _all_starts(file: IO[bytes], path: Path) -> list[int]:
    """Where complete frames begin."""
    starts = []
    while (line := file.readline(_LINE)).strip():
        start = file.tell() - len(line)
        if not line.strip().isdigit():
            raise DataError(f"{path}: expected a number of atoms at byte {start}, found {line[:40]!r}")
        lines = [file.readline(_LINE) for _ in range(int(line) + 1)] if int(line) < WHOLE // 4 else [b""]
        if not lines[-1].strip():
            break  # cut off
        starts.append(start)
    return starts


def _next_start(file: IO[bytes], place: int) -> int | None:
    """Where the next complete frame begins."""
    file.seek(place)
    if place:
        file.readline(_LINE)
    for _ in range(1_000_000):
        start, line = file.tell(), file.readline(_LINE)
        if not line:
            return None
        if line.strip().isdigit() and b"Properties=" in file.readline(_LINE):
            n_atoms = int(line)
            complete = all(file.readline(_LINE).strip() for _ in range(n_atoms))
            return start if complete else None
    return None


def _frame(file: IO[bytes], start: int, path: Path) -> ase.Atoms:
    file.seek(start)
    count = file.readline(_LINE)
    lines = [count, *(file.readline(_LINE) for _ in range(int(count) + 1))]
    try:
        [atoms] = ase.io.read(io.StringIO(b"".join(lines).decode()), index=":", format="extxyz")
    except (ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the frame at byte {start} is damaged: {error}") from error
    return atoms
