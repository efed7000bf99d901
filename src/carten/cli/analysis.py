"""carten analyse."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carten.cli.jobs import Folder, show_result
from carten.cli.options import FileFormat, Overwrite, require_new, trained_labels
from carten.errors import DataError, ModelError

if TYPE_CHECKING:
    from carten.workflows.results import JobResult


class Analysis(StrEnum):
    """What can be analysed."""

    averages = auto()
    rdf = auto()
    angles = auto()
    diffusion = auto()
    states = auto()
    viscosity = auto()
    dielectric = auto()
    conductivity = auto()


NEEDS = {
    Analysis.dielectric: "a model that predicts polarization",
    Analysis.conductivity: "the model that the dynamics was run with",
}
SPECIAL = (Analysis.viscosity, *NEEDS)
"""Not done unless they are asked for."""


def analyse_command(
    trajectory: Annotated[
        list[Path], typer.Argument(metavar="TRAJECTORY...", help="Dynamics of one system, by carten md or any other.")
    ],
    only: Annotated[
        list[Analysis] | None,
        typer.Option(
            help="What to analyse (default: all that frames allow, but viscosity and conductivity).", show_default=False
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="For dielectric: a model with polarization; for conductivity: the model of the dynamics.",
            show_default=False,
        ),
    ] = None,
    output: Folder = None,
    timestep: Annotated[
        float | None, typer.Option(min=1e-6, help="fs between frames, if they do not carry it.", show_default=False)
    ] = None,
    runs: Annotated[
        bool,
        typer.Option(
            "--runs", help="Each file is a run of its own, such as replicas: analyse each, then means with errors."
        ),
    ] = False,
    skip: Annotated[float, typer.Option(min=0.0, max=0.99, help="Share of the frames left out at the start.")] = 0.1,
    cutoff: Annotated[
        float | None,
        typer.Option(min=0.1, help="Å, of radial distributions (default: half of the cell).", show_default=False),
    ] = None,
    resolution: Annotated[float, typer.Option(min=0.1, help="Of spectra, in cm⁻¹.")] = 10.0,
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Analyse a trajectory: averages, structure, diffusion, states, dielectric constant, viscosity, conductivity.

    Each analysis writes numbers, tables and a picture. What frames do not allow is named and left out, or an error
    where it was asked for by --only, as viscosity and conductivity must be. Several files are one trajectory, or, with
    --runs, one run each.
    """
    from carten.data.read import read_structures
    from carten.workflows.averages import trajectory_averages
    from carten.workflows.motion import diffusion, vibrational_states
    from carten.workflows.radial import bond_angles, radial_distribution
    from carten.workflows.run_statistics import RunStatistics
    from carten.workflows.trajectory import FrameSeries
    from carten.workflows.transport import viscosity

    folder = output or Path("analysis")
    names = only or [name for name in Analysis if name not in SPECIAL or (name == "dielectric" and model is not None)]
    if model is None and (needy := [name for name in names if name in NEEDS]):
        raise ModelError(f"{needy[0]} needs {NEEDS[needy[0]]}: give it by --model")
    for path in [folder / f"{name}.json" for name in names] if folder.is_dir() else [folder]:
        require_new(path, overwrite)
    files = [[path] for path in trajectory] if runs else [trajectory]
    series = [
        FrameSeries.of([atoms for _, atoms in read_structures(paths, format)], timestep, skip) for paths in files
    ]
    jobs: dict[str, Callable[[FrameSeries], JobResult]] = {
        "averages": trajectory_averages,
        "rdf": lambda frames: radial_distribution(frames, cutoff),
        "angles": bond_angles,
        "diffusion": diffusion,
        "states": lambda frames: vibrational_states(frames, resolution),
        "viscosity": viscosity,
    }
    if model is not None:
        from carten.interfaces.ase import Calculator
        from carten.properties.io import header, load
        from carten.workflows.dielectric import dielectric
        from carten.workflows.transport import conductivity

        jobs["conductivity"] = lambda frames: conductivity(frames, Calculator(model))
        potential = load(model)
        inputs = trained_labels(header(model), potential.inputs, section="inputs")
        jobs["dielectric"] = lambda frames: dielectric(frames, potential, resolution, inputs=inputs)
    for name in names:
        try:
            results = [jobs[name](frames) for frames in series]
        except DataError as error:
            if only:
                raise
            typer.echo(f"no {name}: {error}", err=True)
            continue
        result = RunStatistics(tuple(map(str, trajectory)), tuple(results)) if len(results) > 1 else results[0]
        show_result(result, name, result.save(folder, name))
