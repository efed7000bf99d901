"""carten md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from carten.cli.options import Backend, Device, Dtype, ModelFile, load_model

if TYPE_CHECKING:
    from carten.workflows.md import Summary


def md_command(
    model: ModelFile,
    structure: Annotated[
        Path, typer.Argument(metavar="STRUCTURE", help="Where to start; the last frame of a file.", show_default=False)
    ],
    steps: Annotated[int, typer.Option(min=1, help="Steps in all, those before a restart included.")] = 1000,
    timestep: Annotated[float, typer.Option(min=1e-6, help="fs.")] = 0.5,
    ensemble: Annotated[
        Literal["nve", "langevin", "bussi"],
        typer.Option(help="Constant energy, or a thermostat: Langevin, or Bussi's stochastic velocity rescaling."),
    ] = "nve",
    temperature: Annotated[
        float, typer.Option(min=0.0, help="K, of the thermostat and of velocities where the structure has none.")
    ] = 300.0,
    damping: Annotated[float, typer.Option(min=1e-6, help="fs, the time in which a thermostat acts.")] = 100.0,
    interval: Annotated[int, typer.Option(min=1, help="Steps between frames, and between lines of the log.")] = 10,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Trajectory; .csv and .restart.json lie beside it.")
    ] = Path("md.extxyz"),
    restart: Annotated[bool, typer.Option("--restart", help="Continue the run of the output up to --steps.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of velocities and thermostat.")] = 0,
    skin: Annotated[float, typer.Option(min=0.0, help="Å, of the neighbour list.")] = 0.5,
    device: Device = None,
    dtype: Dtype = None,
    backend: Backend = "auto",
) -> None:
    """Molecular dynamics: writes frames and a log, reports temperature, energy drift and speed.

    A run that was interrupted goes on when the same command is given with --restart.
    """
    from rich.console import Console

    from carten.cli.progress import progress
    from carten.data.read import read_structures
    from carten.interfaces.ase import Calculator
    from carten.workflows.md import Settings, run

    settings = Settings(steps, timestep, ensemble, temperature, damping, interval, seed)
    atoms = read_structures(structure)[-1][1]
    atoms.calc = Calculator(load_model(model, device, dtype, backend), skin=skin)
    with progress(Console(), f"{ensemble}, {len(atoms)} atoms", steps) as done:
        summary = run(atoms, settings, output, restart, advance=done)
    for line in summary_lines(summary, settings.timestep):
        typer.echo(line)
    typer.echo(f"trajectory    {output}")


def summary_lines(summary: Summary, timestep: float) -> list[str]:
    """What a run did, in words."""
    lines = [
        f"steps         {summary.steps} of {timestep:g} fs, {summary.steps * timestep / 1000:g} ps",
        f"temperature   {summary.temperature:.1f} K, standard deviation {summary.temperature_spread:.1f} K",
    ]
    if summary.drift is not None:
        lines.append(f"energy drift  {summary.drift:.3g} meV/atom/ps, fluctuation {summary.fluctuation:.3g} meV/atom")
    return [*lines, f"speed         {summary.steps_per_second:.3g} steps/s, {summary.ns_per_day:.3g} ns/day"]
