"""carten train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from carten.cli.options import Backend
from carten.train.signals import Interrupted, interruptible

if TYPE_CHECKING:
    from rich.table import Table

    from carten.properties.routes import Property
    from carten.train.metrics import Breakdown

MAX_SEED = 2**63 - 1
"""As in the configuration."""


def train_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, see carten init.", show_default=False)],
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Keys of CONFIG to set, as training.epochs=10 or data.batch='{atoms: 500}'.",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the output folder.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Read, check, take a few steps, estimate time and memory; write nothing."),
    ] = False,
    backend: Backend = "auto",
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_SEED, help="Random seed instead of the one in CONFIG.", show_default=False),
    ] = None,
) -> None:
    """Train a model: best.carten, metrics.csv, learning curves and a checkpoint go into the output folder.

    Ctrl-C, SIGTERM and SIGUSR1 end a run after its present step with a checkpoint; --resume goes on from there.
    """
    with interruptible():
        try:
            _train(config, keys or [], _Options(resume, backend, seed, dry_run))
        except Interrupted as stop:
            if not stop.announced:
                typer.echo(f"{stop.signal.name}: stopped before training", err=True)
            raise


@dataclass(frozen=True)
class _Options:
    """Of the command."""

    resume: bool
    backend: str
    seed: int | None
    dry_run: bool


def _train(path: Path, keys: Sequence[str], options: _Options) -> None:
    from lightning.pytorch.utilities import rank_zero_only
    from rich.console import Console

    from carten.cli.tables import training_table
    from carten.ops.memory import keep_freed_memory
    from carten.properties.io import load
    from carten.train.config import Config
    from carten.train.files import PICTURES
    from carten.train.run import dry_run as rehearse
    from carten.train.run import train as run

    console = Console()
    configured = Config.load(path, keys)
    if options.seed is not None:
        configured = configured.model_copy(update={"seed": options.seed})
    keep_freed_memory()
    if options.dry_run:
        rehearse(configured, console, options.backend)
        return
    result = run(configured, options.resume, console, options.backend)
    if getattr(rank_zero_only, "rank", 0) != 0:  # one process speaks for all
        return
    sets = {"validation": result.validation, **({"test": result.test} if result.test else {})}
    done = f"{result.steps} steps in {result.minutes:.1f} minutes"
    console.print(f"\nbest model: [bold]{escape(str(result.model))}[/], {done}", highlight=False, soft_wrap=True)
    rows = load(result.model, backend=options.backend).properties
    console.print(training_table(sets, rows))
    for title, columns in _breakdowns(result.breakdowns):
        console.print(breakdown_table(title, columns, rows))
    curves = f"learning curves: {escape(str(result.model.with_name(PICTURES[0])))}"
    console.print(curves, highlight=False, soft_wrap=True)
    following = f"next: carten evaluate {escape(str(result.model))} DATA --report report.html"
    console.print(following, style="dim", highlight=False, soft_wrap=True)


def _breakdowns(sets: Mapping[str, Mapping[str, Breakdown]]) -> Iterator[tuple[str, dict[str, Breakdown]]]:
    """The grouping of errors, and the errors of each set."""
    for title in ("by group", "by element"):
        columns = {name: breakdowns[title] for name, breakdowns in sets.items() if breakdowns.get(title)}
        if columns:
            yield title, columns


MOST_GROUPS = 30
"""Shown of each property: those with the largest errors."""


def breakdown_table(title: str, sets: Mapping[str, Breakdown], rows: Mapping[str, Property]) -> Table:
    """Errors of each property for each group or element; of extensive properties per atom.

    Args:
        title: of the grouping.
        sets: errors of each set of structures.
        rows: the properties.
    """
    from rich.table import Table

    from carten.text import number, unit

    table = Table(f"\n{title}", "\nunit", box=None, pad_edge=False, header_style="dim")
    for name in sets:
        for heading in (f"{name}\nRMSE", "\nbias", "\nvalues"):
            table.add_column(heading, justify="right")
    for name, row in rows.items():
        key = f"{name}_per_atom" if row.extensive else name
        cells_of = [item for breakdown in sets.values() for item in breakdown.get(key, {}).items()]
        errors = {group: cells["rmse"] for group, cells in cells_of}
        shown = sorted(errors, key=lambda group: -errors[group])[:MOST_GROUPS]
        if shown:
            table.add_row(name, unit(row.report_unit + "/atom" * row.extensive), style="bold")
        for group in sorted(shown):
            line = []
            for breakdown in sets.values():
                cells = breakdown.get(key, {}).get(group)
                line += ["", "", ""] if cells is None else [number(cells["rmse"]), number(cells["bias"])]
                line += [] if cells is None else [f"{cells['count']:,.0f}"]
            table.add_row(escape(f"  {_printable(group)}"), "", *line)
        if len(errors) > len(shown):
            table.add_row(f"  {len(errors) - len(shown)} with smaller errors", "")
    return table


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
