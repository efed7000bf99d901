"""carten md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from carten.cli.jobs import show_result
from carten.cli.options import (
    Backend,
    Device,
    Dtype,
    FileFormat,
    ModelFile,
    load_any_model,
    require_new,
    trained_labels,
)
from carten.errors import ModelError

if TYPE_CHECKING:
    import ase

    from carten.properties.potential import Potential
    from carten.uncertainty import Ensemble
    from carten.workflows.md import Settings
    from carten.workflows.summary import DynamicsSummary


def md_command(
    model: ModelFile,
    structure: Annotated[
        Path,
        typer.Argument(
            metavar="STRUCTURE", help="Initial structure (last frame of the file).", show_default=False
        ),
    ],
    steps: Annotated[int, typer.Option(min=1, help="Total number of steps, including those before a restart.")] = 1000,
    timestep: Annotated[float, typer.Option(min=1e-6, help="Time step in fs.")] = 0.5,
    ensemble: Annotated[
        Literal["nve", "langevin", "bussi", "npt"],
        typer.Option(
            help="Constant energy, or a thermostat: Langevin, Bussi's stochastic velocity rescaling, or that with a "
            "barostat (isotropic stochastic cell rescaling)."
        ),
    ] = "nve",
    temperature: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Temperature in K of the thermostat, and of the initial velocities if the structure has none.",
        ),
    ] = 300.0,
    final_temperature: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Temperature in K that the thermostat reaches at the last step, linearly (heating, annealing).",
            show_default=False,
        ),
    ] = None,
    damping: Annotated[float, typer.Option(min=1e-6, help="Time constant of the thermostat in fs.")] = 100.0,
    pressure: Annotated[
        float | None, typer.Option(help="Of npt, in GPa (default: 0).", show_default=False)
    ] = None,
    pressure_damping: Annotated[
        float | None,
        typer.Option(min=1e-6, help="Of npt: time constant of the barostat in fs (default: 1000).", show_default=False),
    ] = None,
    compressibility: Annotated[
        float | None,
        typer.Option(
            min=1e-9,
            help="Of npt: about, in 1/GPa (water 0.46, silicon 0.01), how fast the volume relaxes (default: 0.1).",
            show_default=False,
        ),
    ] = None,
    interval: Annotated[int, typer.Option(min=1, help="Steps between frames, and between lines of the log.")] = 10,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Trajectory; .csv and .restart.json lie beside it."),
    ] = Path("md.extxyz"),
    restart: Annotated[bool, typer.Option("--restart", help="Continue the run of the output up to --steps.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for velocities and thermostat.")] = 0,
    replicas: Annotated[
        int,
        typer.Option(
            min=1, help="Runs with the seeds --seed, --seed + 1, .., evaluated in one batch; means with their errors."
        ),
    ] = 1,
    restrain_centre: Annotated[
        float | None,
        typer.Option(
            min=1e-9,
            metavar="K",
            help="Hold the centre of mass by a spring, in eV/Å² (default: it does not move at all).",
            show_default=False,
        ),
    ] = None,
    plumed: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Input of PLUMED, e.g. of metadynamics.", show_default=False),
    ] = None,
    skin: Annotated[float, typer.Option(min=0.0, help="Skin of the neighbour list in Å.")] = 0.5,
    max_temperature: Annotated[
        float | None,
        typer.Option(
            min=1e-6, help="Stop above this, in K (default: 10000, or 30 times --temperature).", show_default=False
        ),
    ] = None,
    max_force: Annotated[float, typer.Option(min=1e-6, help="Stop above this force on an atom, in eV/Å.")] = 500.0,
    max_step: Annotated[
        float, typer.Option(min=1e-6, help="Stop if an atom moves farther than this in one step, in Å.")
    ] = 0.5,
    stop_at: Annotated[
        list[str] | None,
        typer.Option(
            "--stop-at",
            metavar="PROPERTY>VALUE",
            help="End the run when a property of any atom, or of the structure, is above (or <, below) a value in its "
            "unit, e.g. 'forces_uncertainty>0.3' in eV/Å; or 'contacts': when atoms are closer than in the training "
            "data. Looked at every --interval steps. May be repeated.",
            show_default=False,
        ),
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    backend: Backend = "auto",
    format: FileFormat = None,
) -> None:
    """Molecular dynamics: writes frames and a log, reports temperature, energy drift and speed.

    An interrupted run continues when the same command is given with --restart. A run that explodes is stopped; its last
    good frame is in the trajectory. So is the frame that a criterion of --stop-at is met in, and the run ends well.
    Results are written as .json, .svg and .png beside the trajectory. Replicas of md.extxyz are md-0.extxyz, ...
    """
    from rich.console import Console

    from carten.cli.live import dynamics_progress
    from carten.data.read import read_structures
    from carten.interfaces.ase import Calculator
    from carten.uncertainty import model_header
    from carten.workflows.barostat import Barostat
    from carten.workflows.limits import Limits, trained_contacts
    from carten.workflows.md import Settings, run_dynamics
    from carten.workflows.replicas import DynamicsStatistics, run_replicas
    from carten.workflows.stop import parse_criterion
    from carten.workflows.summary import DynamicsSummary

    if not restart:
        require_new(output.with_suffix(".json"), overwrite=False)

    limits = Limits(max_temperature, max_force, max_step)
    where, atoms = read_structures(structure, format)[-1]
    potential, head = load_any_model(model, device, dtype, backend), model_header(model)
    criteria = [
        parse_criterion(text, potential.properties, trained_contacts(head), potential.cutoff) for text in stop_at or ()
    ]
    options = {"pressure": pressure, "damping": pressure_damping, "compressibility": compressibility}
    barostat = Barostat(**{name: value for name, value in options.items() if value is not None})
    settings = Settings(
        steps,
        timestep,
        ensemble,
        temperature,
        damping,
        interval,
        seed,
        barostat=barostat if ensemble == "npt" or any(value is not None for value in options.values()) else None,
        final_temperature=final_temperature,
        centre_spring=restrain_centre,
        plumed="" if plumed is None else plumed.read_text(encoding="utf-8"),
        limits=limits,
        stop_at=tuple(criteria),
        model=model_digest(model),
    )
    atoms = _start(atoms, where, potential, head)
    calculator = Calculator(potential, skin=skin)
    result: DynamicsSummary | DynamicsStatistics
    with dynamics_progress(Console(), f"{ensemble}, {len(atoms)} atoms", steps, replicas) as advance:
        if replicas > 1:
            result = run_replicas(atoms, calculator, settings, replicas, output, restart, advance)
        else:
            atoms.calc = calculator
            result = run_dynamics(atoms, settings, output, restart, advance)
    paths = result.save(output.parent, output.stem)
    if isinstance(result, DynamicsSummary):
        show_summary(result, settings, output, paths)
        return
    show_result(result, f"{ensemble}, {replicas} replicas", paths)
    if failures := result.failures():
        raise ModelError(f"some replicas failed, results are written all the same: {'; '.join(failures)}")


def model_digest(model: Path) -> str:
    """What tells one model file from another: the beginning of its SHA-256."""
    import hashlib

    from carten.pretrained import located

    return hashlib.sha256(located(model).read_bytes()).hexdigest()[:16]


def _start(atoms: ase.Atoms, where: str, model: Potential | Ensemble, head: dict[str, object]) -> ase.Atoms:
    """The structure with the inputs of the model where a calculator finds them, without labels; warns of contacts."""
    from carten.data.structures import require_known
    from carten.errors import DataError
    from carten.workflows.inputs import with_inputs, without_labels
    from carten.workflows.limits import close_contacts, trained_contacts

    if missing := [name for name in ("energy", "forces") if name not in model.properties]:
        raise ModelError(
            f"dynamics needs a model that predicts energy and forces; this one has no {missing[0]}, it predicts "
            f"{', '.join(model.requested)}"
        )
    if len(atoms) == 0:
        raise DataError(f"{where}: has no atoms: nothing can move")
    require_known(atoms.numbers, model.elements, where)
    inputs = trained_labels(head, model.inputs, section="inputs")
    atoms = with_inputs(model, atoms, inputs)
    atoms, left_out = without_labels(atoms, trained_labels(head, model.properties).values(), inputs.values())
    if left_out:
        typer.echo(f"not carried along: {', '.join(left_out)}, which belong to the first structure alone", err=True)
    try:
        contacts = close_contacts(atoms, trained_contacts(head), model.cutoff)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    for sentence in contacts:
        typer.echo(f"Warning: {where}: {sentence}", err=True)
    return atoms


def show_summary(summary: DynamicsSummary, settings: Settings, trajectory: Path, paths: list[Path]) -> None:
    """Print the results of a run, and where they are."""
    if summary.stopped:
        typer.echo(
            f"stopped at step {summary.steps}: {summary.stopped} (--stop-at); it is the last frame of {trajectory}"
        )
    timestep = settings.timestep
    typer.echo(f"steps         {summary.steps} of {timestep:g} fs, {summary.steps * timestep / 1000:g} ps")
    typer.echo(f"temperature   {summary.temperature:.1f} K, standard deviation {summary.temperature_spread:.1f} K")
    if summary.drift is not None:
        drift = f"{summary.drift:.3g} meV/atom/ps, fluctuation {summary.fluctuation:.3g} meV/atom"
        heat = "" if settings.ensemble == "nve" else ", the heat of the thermostat included"
        typer.echo(f"energy drift  {drift}{heat}")
    if summary.new_steps == 0:
        typer.echo("all these steps had been made already: ask for more with --steps")
    else:
        typer.echo(f"speed         {summary.steps_per_second:.3g} steps/s, {summary.ns_per_day:.3g} ns/day")
    typer.echo(f"trajectory    {trajectory}")
    typer.echo(f"results       {', '.join(map(str, paths))}")
