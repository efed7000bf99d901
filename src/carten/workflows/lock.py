"""One writer for each output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from carten.errors import DataError


@contextmanager
def only_writer(output: Path) -> Iterator[None]:
    """Keep other processes from writing the same output; the system takes the lock away when a process dies.

    Raises:
        DataError: another process holds it.
    """
    path = output.with_name(f".{output.name}.lock")
    with path.open("a") as file:
        try:
            _lock(file)
        except BlockingIOError as error:
            raise DataError(
                f"{output} is being written by another run: wait for it, or choose another --output"
            ) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lock(file: IO[str]) -> None:
    """A ``BlockingIOError`` where another process has the lock; Windows, and file systems without locks, have none."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return
