"""Tar archives and files compressed by Zstandard."""

import io
import tarfile
from pathlib import Path

import ase.io
import pytest
import zstandard
from ase.build import molecule

from carten.data.read import read_structures
from carten.errors import DataError


@pytest.fixture
def text(tmp_path: Path) -> bytes:
    ase.io.write(tmp_path / "source.extxyz", [molecule("H2O"), molecule("CH4")])
    return (tmp_path / "source.extxyz").read_bytes()


def archive(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "tar.zst"])
def test_members_of_archives_are_read_in_order(tmp_path: Path, text: bytes, suffix: str) -> None:
    path = tmp_path / f"shard.{suffix}"
    archive(path, {"a/x.extxyz": text, "../../b/x.extxyz": text}, "w:gz" if suffix.endswith("gz") else "w")
    if suffix == "tar.zst":
        path.write_bytes(zstandard.compress(path.read_bytes()))
    structures = read_structures(path)
    assert [where for where, _ in structures] == [
        f"{path}/{member}, frame {k}" for member in ("a/x.extxyz", "../../b/x.extxyz") for k in range(2)
    ]
    assert [str(atoms.symbols) for _, atoms in structures] == ["OH2", "CH4"] * 2
    assert not (tmp_path.parent / "b").exists()


def test_zstandard_in_one_or_several_frames(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.extxyz.zst"
    path.write_bytes(zstandard.compress(text[:100]) + zstandard.compress(text[100:]))
    assert [where for where, _ in read_structures(path)] == [f"{path}, frame 0", f"{path}, frame 1"]
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 8):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"a\.extxyz\.zst: cannot be read"):
            read_structures(path)


def test_what_is_wrong_in_an_archive_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "a.tar"
    archive(path, {"good.extxyz": text, "bad.extxyz": text[:-20]})
    with pytest.raises(DataError, match=r"a\.tar/bad\.extxyz, frame 1.*cut off"):
        read_structures(path)
    archive(path, {"INCAR": b"ENCUT = 500\n"})
    with pytest.raises(DataError, match=r"a\.tar/INCAR: is not in a format read by default"):
        read_structures(path)
    path.write_bytes(b"no archive " * 100)
    with pytest.raises(DataError, match="no tar archive"):
        read_structures(path)
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("link.extxyz")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(DataError, match=r"link\.extxyz: is neither a file nor a folder"):
        read_structures(path)


def test_patterns_are_looked_up(tmp_path: Path, text: bytes) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.extxyz").write_bytes(text)
    places = [where for where, _ in read_structures(tmp_path / "*" / "x.extxyz")]
    assert places[0] == f"{tmp_path}/a/x.extxyz, frame 0"
    assert len(places) == 4
    with pytest.raises(DataError, match="no such file"):
        read_structures(tmp_path / "*" / "y.extxyz")
