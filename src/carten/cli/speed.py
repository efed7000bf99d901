"""carten speed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carten.cli.options import Backend, Device, Dtype, JsonFile, Overwrite, find_device, load_model, require_new
from carten.text import amount

if TYPE_CHECKING:
    import ase
    from rich.table import Table

    from carten.workflows.speed import BenchedModel, Timing

_WIDTH = 110
"""Minimum width of the tables in characters."""

SMALLEST_SHARE = 0.005
"""Operators with a smaller share of the time are left out of the table."""


def speed_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|PRESET",
            help="A model file, or a preset (carten, tace, ictp) with random weights.",
            show_default=False,
        ),
    ],
    system: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE", help="ethanol, water:N (N molecules), carbon:N (N atoms), or a structure file."
        ),
    ] = "water:64",
    seconds: Annotated[float, typer.Option(min=0.0, help="Time spent on each model, in s.")] = 5.0,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL|PRESET|BACKEND",
            help="Measure this one as well, alternating with the first. May be repeated.",
        ),
    ] = None,
    json_file: JsonFile = None,
    device: Device = None,
    dtype: Dtype = None,
    backend: Backend = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Measure speed: time per atom for energy and forces, memory, share of each operator, fraction of peak performance.

    Peak performance is what products of large matrices reach in the same run on as many threads (OMP_NUM_THREADS).
    MAC are multiply-adds; B is the minimum number of bytes moved.
    With --compare, further models, presets or back ends alternate with the first; ratios of times are printed.

    [bold]carten speed run/best.carten --system start.xyz[/]
    [bold]carten speed carten --compare reference --compare ictp[/]
    """
    from rich.console import Console

    from carten.workflows.speed import measure
    from carten.workflows.systems import find_system

    require_new(json_file, overwrite)
    atoms = find_system(system)
    device_and_dtype = (device, dtype)
    subjects = [_benched(model, backend, atoms, device_and_dtype)]
    subjects += [_other(name, subjects[0], atoms, device_and_dtype) for name in compare or ()]
    timings = measure(subjects, atoms, system, seconds)
    console = Console(highlight=False, width=max(Console().width, _WIDTH))
    for line in _about(timings[0]):
        console.print(line, soft_wrap=True)
    console.print(timings_table(timings))
    for timing in timings:
        if timing.operators:
            console.print(f"\n{Path(timing.model).name}, back end {timing.backend}", soft_wrap=True)
            console.print(operators_table(timing))
    if json_file is not None:
        first, *others = map(asdict, timings)
        json_file.write_text(json.dumps({**first, "compared": others}, indent=2) + "\n", encoding="utf-8")


def _benched(
    name: str, backend: str, atoms: ase.Atoms, device_and_dtype: tuple[str | None, str | None]
) -> BenchedModel:
    import torch

    from carten.model.config import PRESETS
    from carten.workflows.speed import BenchedModel, random_model

    device, dtype = device_and_dtype
    if name not in PRESETS:
        return BenchedModel(name, load_model(Path(name), device, dtype, backend), backend)
    potential = random_model(name, atoms, backend).to(find_device(device), getattr(torch, dtype or "float32"))
    return BenchedModel(name, potential, backend)


def _other(
    name: str, first: BenchedModel, atoms: ase.Atoms, device_and_dtype: tuple[str | None, str | None]
) -> BenchedModel:
    """What to compare with: the first model on another back end, or another model on the same."""
    from carten.ops.library import BACKENDS

    if name in BACKENDS:
        return _benched(first.name, name, atoms, device_and_dtype)
    return _benched(name, first.backend, atoms, device_and_dtype)


def _about(timing: Timing) -> list[str]:
    threads = f"{timing.threads} {'thread' if timing.threads == 1 else 'threads'}"
    return [
        f"system   {timing.system}: {timing.n_atoms} atoms, {timing.edges_per_atom:.1f} edges per atom",
        f"machine  {timing.device}, {threads}, {timing.dtype}, peak {timing.peak_gflops:,.0f} GFLOP/s",
    ]


def timings_table(timings: Sequence[Timing]) -> Table:
    """A row for each model, and the ratio of its time to that of the first."""
    columns = ["µs/atom", "atoms x steps/s", "memory, MB", "MAC/atom", "of peak", "first, s"]
    if len(timings) > 1:
        columns.append("time")
    table = _table("model", "back end", *columns)
    for timing in timings:
        cells = [
            f"{timing.us_per_atom:,.1f}",
            f"{timing.atom_steps_per_second:,.0f}",
            f"{timing.peak_memory_mb:,.0f}",
            amount(timing.multiply_adds_per_atom),
            f"{timing.peak_fraction:.1%}",
            f"{timing.first_seconds:.2f}",
        ]
        if len(timings) > 1:
            cells.append(f"{timing.us_per_atom / timings[0].us_per_atom:.2f} ×")
        table.add_row(Path(timing.model).name, timing.backend, *cells)
    return table


def operators_table(timing: Timing) -> Table:
    """A row for each operator with a noticeable share of the time."""
    table = _table("operator", "µs/atom", "share", "MAC/atom", "B/atom", "of peak")
    for part in timing.operators:
        work = [amount(x) if x else "" for x in (part.multiply_adds_per_atom, part.bytes_per_atom)]
        fraction = f"{part.peak_fraction:.1%}" if part.multiply_adds_per_atom else ""
        if part.share >= SMALLEST_SHARE:
            table.add_row(part.operator, f"{part.us_per_atom:,.1f}", f"{part.share:.1%}", *work, fraction)
    return table


def _table(first: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(first, overflow="fold", min_width=12)
    for column in columns:
        table.add_column(column, justify="left" if column == "back end" else "right", no_wrap=True)
    return table
