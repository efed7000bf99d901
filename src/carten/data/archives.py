"""Files within files: members of tar archives, and what is compressed by Zstandard, through temporary copies."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from shutil import copyfileobj
from tempfile import TemporaryDirectory

from carten.data.formats import opened
from carten.errors import DataError

_ZSTANDARD = b"\x28\xb5\x2f\xfd"
_CHUNK = 2**20
_TAR = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")


def is_packed(path: Path) -> bool:
    """Whether a file is a tar archive, or compressed by Zstandard."""
    return path.name.lower().endswith(_TAR) or _is_zstandard(path)


def unpacked(path: Path) -> Iterator[tuple[str, Path]]:
    """Every file in an archive, or the one that is compressed: what to call it, and a temporary copy.

    A copy is removed when the next one is asked for. Names within archives are never used as paths.

    Raises:
        DataError: the archive is damaged or cut off, or holds anything but files and folders.
    """
    name = path.name.lower()
    with TemporaryDirectory(prefix="carten-") as folder:
        source = path
        if _is_zstandard(path):
            source = Path(folder, name.removesuffix(".zst"))
            _decompress(path, source)
        if not name.endswith(_TAR):
            yield str(path), source
            return
        try:
            with opened(source) as content, tarfile.open(fileobj=content, mode="r|") as archive:
                yield from _members(archive, path, Path(folder))
        except tarfile.TarError as error:
            raise DataError(f"{path}: cannot be read, it is no tar archive, damaged or cut off: {error}") from error


def _members(archive: tarfile.TarFile, path: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    for number, member in enumerate(archive):
        label = f"{path}/{member.name}"
        if member.isdir():
            continue
        content = archive.extractfile(member) if member.isfile() else None
        if content is None:
            raise DataError(f"{label}: is neither a file nor a folder; pack data files only")
        inner = folder / str(number)
        inner.mkdir()
        copy = inner / (PurePosixPath(member.name).name or "data")
        with copy.open("wb") as file:
            copyfileobj(content, file, _CHUNK)
        yield label, copy
        copy.unlink()


def _is_zstandard(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ZSTANDARD)) == _ZSTANDARD


def _decompress(path: Path, target: Path) -> None:
    """Write what is compressed, in one or several frames, to a file."""
    try:
        import zstandard
    except ImportError as error:
        raise DataError(f"{path}: is compressed by Zstandard: pip install 'carten[scale]'") from error
    try:
        with path.open("rb") as source, target.open("xb") as file:
            frame = zstandard.ZstdDecompressor().decompressobj()
            while chunk := source.read(_CHUNK):
                while chunk:
                    if frame.eof:
                        frame = zstandard.ZstdDecompressor().decompressobj()
                    file.write(frame.decompress(chunk))
                    chunk = frame.unused_data if frame.eof else b""
            if not frame.eof:
                raise DataError(f"{path}: cannot be read, it is cut off; copy it again")
    except zstandard.ZstdError as error:
        raise DataError(f"{path}: cannot be read, it is damaged: {error}") from error
