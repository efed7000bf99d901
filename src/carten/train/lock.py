"""One run per folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from carten.errors import ConfigError
from carten.train.files import LOCK, remove_stray, temporary


@contextmanager
def locked(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the folder of a run, creating it if needed; an empty folder is removed afterwards.

    A file in it names host and process. Where that process is dead, as after a kill, its lock is taken over.

    Args:
        folder: of the run.
        say: shows a sentence to the user.

    Raises:
        ConfigError: another run holds the folder.
        OSError: the folder cannot be written to.
    """
    new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / LOCK
    text = json.dumps({"host": socket.gethostname(), "process": os.getpid(), "started": _started(os.getpid())})
    try:
        while not _create(lock, text):
            _release_dead(lock, folder, say)
        try:
            remove_stray(folder)
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        for path in new_folders:
            try:
                path.rmdir()
            except OSError:  # something is in it
                break


def _create(lock: Path, text: str) -> bool:
    """Make the lock with its content at once; false where there is one."""
    partial = temporary(lock)
    try:
        partial.write_text(text, encoding="utf-8")
        os.link(partial, lock)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if lock.exists():
            return False
        os.rename(partial, lock)
    finally:
        partial.unlink(missing_ok=True)
    return True


def _release_dead(lock: Path, folder: Path, say: Callable[[str], None]) -> None:
    """Remove the lock of a process that is no more.

    Raises:
        ConfigError: it may still run.
    """
    try:
        text = lock.read_text(encoding="utf-8")
    except FileNotFoundError:  # released just now
        return
    owner = _owner(text)
    if owner is None:
        raise ConfigError(f"output: {lock} names no process: if no run writes to {folder}, remove this file")
    host, process, started = owner
    if host != socket.gethostname():
        raise ConfigError(
            f"output: {folder} is used by another run, process {process} on {host}: choose another folder; "
            f"if that run is over, remove {lock}"
        )
    current = _started(process)
    if current is not None and (not current or not started or current == started):
        raise ConfigError(
            f"output: {folder} is used by another run, process {process} on this machine: wait for its end, "
            "or choose another folder"
        )
    aside = temporary(lock)
    try:
        os.rename(lock, aside)  # only one of several processes succeeds
    except FileNotFoundError:
        return
    if aside.read_text(encoding="utf-8") == text:
        aside.unlink()
        say(f"the run that held {folder} (process {process}) is dead: its lock is taken over")
    else:  # another process took over in the meantime
        os.rename(aside, lock)


def _owner(text: str) -> tuple[str, int, Any] | None:
    try:
        content = json.loads(text)
        return str(content["host"]), int(content["process"]), content["started"]
    except (ValueError, KeyError, TypeError):
        return None


def _started(process: int) -> str | None:
    """When a process of this machine began (its number may be used again); ``None`` where there is none.

    Where the system does not tell, it is an empty string for every process that lives.
    """
    status = Path(f"/proc/{process}/stat")
    try:
        fields = status.read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except (OSError, OverflowError):
        pass
    return ""
