"""carten md, carten bench."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from carten.cli.options import (
    Backend,
    Device,
    Dtype,
    JsonFile,
    ModelFile,
    Overwrite,
    find_device,
    load_model,
    require_new,
)

if TYPE_CHECKING:
    from carten.workflows.md import Summary


def md(
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
        lines.append(
            f"energy drift  {summary.drift:.3g} meV/atom/ps, fluctuation {summary.fluctuation:.3g} meV/atom"
        )
    return [*lines, f"speed         {summary.steps_per_second:.3g} steps/s, {summary.ns_per_day:.3g} ns/day"]


def bench(
    model: Annotated[
        str, typer.Argument(metavar="MODEL|PRESET", help="A model; or tace, ictp: random weights.", show_default=False)
    ],
    system: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="ethanol, water:N (N molecules), carbon:N (N atoms), or a file.")
    ] = "water:64",
    seconds: Annotated[float, typer.Option(min=0.0, help="Time to spend.")] = 5.0,
    json_file: JsonFile = None,
    device: Device = None,
    dtype: Dtype = None,
    backend: Backend = "auto",
    overwrite: Overwrite = False,
) -> None:
    """How fast: time per atom for energy and forces, atoms x steps per second, peak memory."""
    import torch

    from carten.model.config import PRESETS
    from carten.workflows.bench import find_system, measure, random_model

    require_new(json_file, overwrite)
    atoms = find_system(system)
    if model in PRESETS:
        potential = random_model(model, atoms, backend).to(find_device(device), getattr(torch, dtype or "float32"))
    else:
        potential = load_model(Path(model), device, dtype, backend)
    timing = measure(potential, atoms, system, seconds, backend)
    typer.echo(
        f"system        {timing.system}: {timing.n_atoms} atoms, {timing.edges_per_atom:.1f} edges per atom\n"
        f"run           {timing.dtype}, {timing.device}, {timing.threads} threads, back end {timing.backend}\n"
        f"time          {timing.us_per_atom:.4g} µs per atom (first evaluation {timing.first_seconds:.2f} s)\n"
        f"throughput    {timing.atom_steps_per_second:,.0f} atoms x steps per second\n"
        f"peak memory   {timing.peak_memory_mb:,.0f} MB"
    )
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(timing), indent=2) + "\n", encoding="utf-8")
