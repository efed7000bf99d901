"""Compiled code kept on disk, in a folder that nobody but this user can change.

Whoever can write where compiled code is read from can run code as its reader. So the folder is opened step by step,
without following links, and must belong to this user and be writable by no one else; the same holds for each entry.
Names are only ever looked up in the folder that was opened, and what is loaded are the very bytes that were checked.
Folders above may belong to others, as project folders on clusters do: their owners can take the folder away, but what
they put in its place is theirs, and is refused.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path

MOST_BYTES = 512 * 2**20
"""Size of the folder beyond which entries go that have not been used for longest."""

MOST_DAYS = 60.0
"""Days after which an entry that was not used goes."""

DAY = 86400.0

_PASS = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_LIST = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


def cache_folder() -> Path:
    """The folder: ``carten`` in the cache folder of the user, where the platform puts it."""
    return user_cache_path("carten", appauthor=False)


def read_kept(name: str, suffix: str) -> Iterator[bytes]:
    """Contents that were kept under a name; damaged entries are removed."""
    try:
        with private_folder(cache_folder()) as folder:
            for entry in sorted(os.listdir(folder)):
                if entry.startswith(name) and entry.endswith(suffix):
                    data = _checked(folder, entry)
                    if data is not None:
                        yield data
    except OSError as error:
        _say(error)


def keep(name: str, suffix: str, data: bytes) -> None:
    """Keep a content under a name: the entry appears at once and complete, or not at all."""
    temporary = f".{secrets.token_hex(8)}"
    try:
        with private_folder(cache_folder()) as folder:
            try:
                with os.fdopen(os.open(temporary, _CREATE, 0o600, dir_fd=folder), "wb") as file:
                    file.write(data)
                os.rename(temporary, f"{name}-{_digest(data)}{suffix}", src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise
            _prune(folder)
    except OSError as error:
        _say(error)


@contextmanager
def private_folder(path: Path) -> Iterator[int]:
    """Descriptor of a folder that only this user can change; it is made where it is missing.

    Raises:
        OSError: it can't be made or opened, is a link, or others can change it.
    """
    if os.open not in os.supports_dir_fd or not path.is_absolute():
        raise PermissionError(f"{path} can't be protected on this system")
    *above, last = Path(os.path.realpath(path.parent), path.name).parts
    descriptor = os.open(above[0], _PASS)
    try:
        for name, flags in [*((name, _PASS) for name in above[1:]), (last, _LIST)]:
            if _anyone_can_replace(os.fstat(descriptor)):
                raise PermissionError(f"a folder above {path} can be changed by everybody")
            inner = _entered(name, flags, descriptor)
            os.close(descriptor)
            descriptor = inner
        if not only_mine(os.fstat(descriptor)):
            raise PermissionError(f"{path} has to belong to you, and be writable for you alone (chmod 700 {path})")
        yield descriptor
    finally:
        os.close(descriptor)


def _entered(name: str, flags: int, folder: int) -> int:
    """Descriptor of a folder in a folder, made if it is missing."""
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder)
        return os.open(name, flags, dir_fd=folder)


def _anyone_can_replace(folder: os.stat_result) -> bool:
    """Whether everybody can rename what is in a folder: not so where its sticky bit is set."""
    return bool(folder.st_mode & stat.S_IWOTH) and not folder.st_mode & stat.S_ISVTX


def only_mine(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user and nobody else can write it."""
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _checked(folder: int, entry: str) -> bytes | None:
    """Content of an entry, or None where it is not what this user wrote; then the entry is removed."""
    with suppress(OSError), os.fdopen(os.open(entry, _READ, dir_fd=folder), "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and only_mine(status) and status.st_size <= MOST_BYTES:
            data = file.read(MOST_BYTES)
            if Path(entry).stem.rpartition("-")[2] == _digest(data):
                _note_use(file.fileno(), status)
                return data
    with suppress(OSError):
        os.unlink(entry, dir_fd=folder)
    return None


def _note_use(descriptor: int, status: os.stat_result) -> None:
    """The time of an entry says when it was last used, to a day."""
    if time.time() - status.st_mtime > DAY and os.utime in os.supports_fd:
        with suppress(OSError):  # a folder that can only be read
            os.utime(descriptor)


def _prune(folder: int) -> None:
    """Remove entries that were not used for long, then the oldest until the rest is small enough."""
    entries = []
    for name in os.listdir(folder):
        with suppress(OSError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                entries.append((status.st_mtime, status.st_size, name))
    total = sum(size for _, size, _ in entries)
    for used, size, name in sorted(entries):
        if total <= MOST_BYTES and time.time() - used < MOST_DAYS * DAY:
            break
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
        total -= size


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _say(error: OSError) -> None:
    _warn_once(f"compiled code can't be kept in {cache_folder()}, so that each process compiles it anew: {error}")


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)
