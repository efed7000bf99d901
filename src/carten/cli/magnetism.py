"""carten magnetic, spins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from carten.cli.crystals import Supercell
from carten.cli.jobs import Folder, JobDtype, JobFiles, run_on
from carten.cli.options import DataFiles, FileFormat, ModelFile, Overwrite, trained_labels

if TYPE_CHECKING:
    import ase

    from carten.interfaces.ase import Calculator


def magnetic_command(
    model: ModelFile,
    data: DataFiles,
    output: Folder = None,
    relax: Annotated[
        Literal["directions", "moments", "none"],
        typer.Option(help="What relaxes of the moments: directions at fixed size, directions and sizes, nothing."),
    ] = "directions",
    positions: Annotated[bool, typer.Option("--positions", help="Relax the atoms together with the moments.")] = False,
    mmax: Annotated[float, typer.Option(min=1e-9, help="Largest magnetic force that may remain, eV/μ_B.")] = 0.001,
    fmax: Annotated[float, typer.Option(min=1e-6, help="Largest force that may remain (--positions), eV/Å.")] = 0.01,
    steps: Annotated[int, typer.Option(min=1, help="Steps at most.")] = 500,
    tilt: Annotated[
        float, typer.Option(min=0.0, max=180.0, help="Degrees by which moments are turned at random at first.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the turns.")] = 0,
    supercell: Supercell = None,
    dtype: JobDtype = "float64",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Magnetic structures: moments relaxed, then exchange constants J and the temperature of magnetic order.

    The model must have magnetic moments as input (magmoms, or collinear_magmoms), the structures must have some.
    J by second derivatives of the energy, E = E0 - sum over pairs of J e·e, by shells of neighbours. Moments at a
    saddle are pointed out, as parallel ones feel no torque: tilt them. For spin dynamics see carten spins.
    """
    from carten.workflows.magnetic import magnetic
    from carten.workflows.moments import MomentGoal

    goal = MomentGoal(relax, positions, mmax, fmax, steps, tilt, seed)
    files = JobFiles(model, data, output, dtype, overwrite, format)
    structures, opened = magnetic_structures(files)
    run_on(
        structures,
        "magnetic",
        files,
        lambda atoms, calculator, show: magnetic(atoms, calculator, goal, supercell, show),
        opened,
    )


def spins_command(
    model: ModelFile,
    data: DataFiles,
    output: Folder = None,
    steps: Annotated[int, typer.Option(min=1, help="Number of steps.")] = 1000,
    timestep: Annotated[float, typer.Option(min=1e-6, help="Time step in fs.")] = 1.0,
    damping: Annotated[float, typer.Option(min=0.0, help="Gilbert's damping; 0 conserves the energy.")] = 0.1,
    temperature: Annotated[float, typer.Option(min=0.0, help="Temperature in K.")] = 0.0,
    field: Annotated[tuple[float, float, float], typer.Option(metavar="X Y Z", help="Magnetic field in T.")] = (
        0.0,
        0.0,
        0.0,
    ),
    interval: Annotated[int, typer.Option(min=1, help="Steps between frames.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the thermal fields.")] = 0,
    dtype: JobDtype = "float64",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Spin dynamics: moments turn in the magnetic forces of the model, by the Landau-Lifshitz-Gilbert equation.

    Atoms stay where they are, moments keep their size. With a temperature there are thermal fields. NAME.extxyz holds
    frames with moments (initial_magmoms), from the last of which a run can go on.
    """
    from carten.workflows.spins import SpinSettings, spins

    settings = SpinSettings(steps, timestep, damping, temperature, field, interval, seed)
    files = JobFiles(model, data, output, dtype, overwrite, format)
    structures, opened = magnetic_structures(files)
    run_on(structures, "spins", files, lambda atoms, calculator, show: spins(atoms, calculator, settings, show), opened)


def magnetic_structures(files: JobFiles) -> tuple[list[ase.Atoms], Calculator]:
    """Structures with moments under their names in the training data, without labels of these alone; the model."""
    from carten.data.read import read_structures
    from carten.interfaces.ase import Calculator
    from carten.uncertainty import model_header
    from carten.workflows.inputs import with_inputs, without_labels
    from carten.workflows.moments import require_moments

    head = model_header(files.model)
    calculator, _ = require_moments(Calculator(files.model, dtype=files.dtype))
    known = calculator.models[0]
    inputs = trained_labels(head, known.inputs, section="inputs")
    labels = trained_labels(head, known.properties).values()
    structures = [with_inputs(known, atoms, inputs) for _, atoms in read_structures(files.data, files.format)]
    return [without_labels(atoms, labels, inputs.values())[0] for atoms in structures], calculator
