"""carten train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from carten.cli.options import Backend
from carten.train.signals import Interrupted, interruptible

LARGEST_SEED = 2**63 - 1
"""As in the configuration."""


def train_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, see carten init.", show_default=False)],
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the output folder, as if it had not stopped.")
    ] = False,
    backend: Backend = "auto",
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=LARGEST_SEED, help="Random seed instead of the one in CONFIG.", show_default=False),
    ] = None,
) -> None:
    """Train a model: best.carten, metrics.csv and a checkpoint to resume from go into the output folder.

    Ctrl-C, SIGTERM and SIGUSR1 end a run after its present step with a checkpoint; --resume goes on from there.
    """
    with interruptible():
        try:
            _train(config, resume, backend, seed)
        except Interrupted as stop:
            if not stop.said:
                typer.echo(f"{stop.signal.name}: stopped before training", err=True)
            raise


def _train(path: Path, resume: bool, backend: str, seed: int | None) -> None:
    from rich.console import Console

    from carten.cli.tables import training_table
    from carten.ops.memory import keep_freed_memory
    from carten.properties.io import load
    from carten.train.config import Config
    from carten.train.run import train as run

    console = Console()
    configured = Config.load(path)
    if seed is not None:
        configured = configured.model_copy(update={"seed": seed})
    keep_freed_memory()
    result = run(configured, resume, console, backend)
    sets = {"validation": result.validation, **({"test": result.test} if result.test else {})}
    done = f"{result.steps} steps in {result.minutes:.1f} minutes"
    console.print(f"\nbest model: [bold]{escape(str(result.model))}[/], {done}", highlight=False, soft_wrap=True)
    console.print(training_table(sets, load(result.model, backend=backend).properties))
    following = f"next: carten evaluate {escape(str(result.model))} DATA --report report.html"
    console.print(following, style="dim", highlight=False, soft_wrap=True)
