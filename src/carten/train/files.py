"""Files of a run: their names, writes that are whole or not at all, and digests that show when data have changed."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from pathlib import Path

from carten.data.store import stamp

BEST, LAST, METRICS, CONFIG = "best.carten", "last.ckpt", "metrics.csv", "config.yaml"
TENSORBOARD = "tensorboard"
LOG = "log.txt"
PICTURES = ("curves.png", "curves.svg")
LOCK = ".lock"

_REPLACED = "|".join(re.escape(name) for name in (BEST, LAST, METRICS, CONFIG, LOCK, *PICTURES))
_STRAY = re.compile(rf"\.({_REPLACED})\.[0-9a-f]{{16}}(\.png|\.svg)?")


def temporary(path: Path) -> Path:
    """A new name beside a file, for its replacement; :func:`remove_stray` recognises it."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def write_text(path: Path, text: str) -> None:
    """Replace a file: written beside it, flushed to disk, then renamed, so that it is never cut off.

    Raises:
        OSError: it cannot be written; what was there before is unchanged.
    """
    partial = temporary(path)
    try:
        with partial.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        error.filename = str(path)  # writing does not say where
        raise
    finally:
        partial.unlink(missing_ok=True)


def remove_stray(folder: Path) -> None:
    """Remove files that runs which were killed while they wrote have left."""
    for path in folder.iterdir():
        if _STRAY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def content_digest(path: Path) -> str:
    """SHA-256 of a file, or of the files in a folder; empty if the path does not exist.

    Of ASE-LMDB files, which may be as large as the disk, what :func:`carten.data.store.stamp` looks at.
    """
    if path.is_file() and path.suffix == ".aselmdb":
        return stamp(path)
    files = sorted(entry for entry in path.rglob("*") if entry.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        if not file.is_file():
            return ""
        with file.open("rb") as content:
            total.update(hashlib.file_digest(content, "sha256").digest())
    return total.hexdigest()
