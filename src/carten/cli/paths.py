"""carten neb, ts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carten.cli.jobs import Folder, JobDtype, JobFiles, RelaxForce, run_on
from carten.cli.options import DataFiles, FileFormat, ModelFile, Overwrite, require_new
from carten.errors import ConfigError, DataError

if TYPE_CHECKING:
    import ase


def neb_command(
    model: ModelFile,
    start: Annotated[Path, typer.Argument(metavar="START", help="A structure.", show_default=False)],
    end: Annotated[Path, typer.Argument(metavar="END", help="Another: same atoms, order, cell.", show_default=False)],
    output: Folder = None,
    images: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Images between the ends (default: 7).", show_default=False)
    ] = None,
    band: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Go on from the images of this file, ends included, such as neb/neb.extxyz.",
            show_default=False,
        ),
    ] = None,
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

    Once the ends have relaxed, the band is in neb.extxyz: after an interruption --band neb/neb.extxyz goes on from
    there.
    """
    from carten.data.read import read_structures
    from carten.workflows.neb import Band, neb

    if band is not None and images is not None:
        raise ConfigError("--images is the number of images of a new band, those of --band are in its file: give one")
    goal = Band(fmax=fmax, steps=steps, relax_ends=not keep_ends)
    goal = goal if images is None else replace(goal, images=images)
    first, last = (_only(path, format) for path in (start, end))
    path = None if band is None else [atoms for _, atoms in read_structures(band, format)]
    files = JobFiles(model, [start, end], output, dtype, overwrite, format)
    file = (output or Path("neb")) / "neb.extxyz"
    if file.exists() and (band is None or band.resolve() != file.resolve()):
        require_new(file, overwrite)
    run_on([first], "neb", files, lambda atoms, calculator, show: neb(atoms, last, calculator, goal, show, path, file))


def ts_command(
    model: ModelFile,
    data: DataFiles,
    output: Folder = None,
    highest: Annotated[
        bool, typer.Option("--highest", help="Of each file only the structure of highest energy: the top of a path.")
    ] = False,
    fmax: RelaxForce = 0.01,
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
