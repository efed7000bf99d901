"""carten neb, ts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carten.cli.jobs import Folder, JobDtype, JobFiles, run_on
from carten.cli.options import DataFiles, FileFormat, ModelFile, Overwrite
from carten.errors import DataError

if TYPE_CHECKING:
    import ase


def neb_command(
    model: ModelFile,
    start: Annotated[Path, typer.Argument(metavar="START", help="A structure.", show_default=False)],
    end: Annotated[Path, typer.Argument(metavar="END", help="Another: same atoms, order, cell.", show_default=False)],
    output: Folder = None,
    images: Annotated[int, typer.Option(min=1, max=1000, help="Images between the ends.")] = 7,
    fmax: Annotated[float, typer.Option(min=1e-6, help="Largest force that may remain on the band, eV/Å.")] = 0.05,
    steps: Annotated[int, typer.Option(min=1, help="Steps at most.")] = 500,
    keep_ends: Annotated[bool, typer.Option("--keep-ends", help="Do not relax the ends: they are relaxed.")] = False,
    dtype: JobDtype = "float64",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Barrier between two structures: a nudged elastic band with a climbing image, all images in one batch.

    The ends relax first. The saddle is checked by its Hessian: exactly one mode must be imaginary. Exits with status 1
    if the band did not converge or the saddle is none; results are written all the same. Fixed atoms stay.
    """
    from carten.workflows.neb import Band, neb

    band = Band(images, fmax, steps, not keep_ends)
    first, last = (_only(path, format) for path in (start, end))
    files = JobFiles(model, [start, end], output, dtype, overwrite, format)
    run_on([first], "neb", files, lambda atoms, calculator, show: neb(atoms, last, calculator, band, show))


def ts_command(
    model: ModelFile,
    data: DataFiles,
    output: Folder = None,
    highest: Annotated[
        bool, typer.Option("--highest", help="Of each file only the structure of highest energy: the top of a path.")
    ] = False,
    fmax: Annotated[float, typer.Option(min=1e-6, help="Largest force that may remain, eV/Å.")] = 0.01,
    steps: Annotated[int, typer.Option(min=1, help="Steps at most.")] = 200,
    dtype: JobDtype = "float64",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Saddle points near structures, by Sella with the exact Hessians of the model.

    Each is checked by its Hessian: exactly one mode must be imaginary. NAME.extxyz holds the saddle and one structure
    on each side of it. Exits with status 1 if a search did not converge or the saddle is none. Fixed atoms stay.
    """
    from carten.data.read import read_structures
    from carten.workflows.ts import SaddleSearch, ts

    search = SaddleSearch(fmax, steps)
    structures = []
    for path in data:
        frames = [atoms for _, atoms in read_structures(path, format)]
        structures += [_highest(path, frames)] if highest else frames
    files = JobFiles(model, data, output, dtype, overwrite, format)
    run_on(structures, "ts", files, lambda atoms, calculator, show: ts(atoms, calculator, search, show))


def _highest(path: Path, frames: list[ase.Atoms]) -> ase.Atoms:
    if any(atoms.calc is None or "energy" not in atoms.calc.results for atoms in frames):
        raise DataError(f"--highest compares energies, and {path} has structures without one")
    return max(frames, key=lambda atoms: float(atoms.get_potential_energy()))


def _only(path: Path, format: str | None) -> ase.Atoms:
    from carten.data.read import read_structures

    structures = read_structures(path, format)
    if len(structures) != 1:
        raise DataError(f"{path} has {len(structures)} structures: an end of a path is one, put it into its own file")
    return structures[0][1]
