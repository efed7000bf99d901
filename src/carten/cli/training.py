"""carten train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file, see carten init.", show_default=False)],
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the output folder, as if it had not stopped.")
    ] = False,
) -> None:
    """Train a model: best.carten, metrics.csv and a checkpoint to resume from go into the output folder."""
    from rich.console import Console

    from carten.cli.tables import training_table
    from carten.properties.io import load
    from carten.train.config import Config
    from carten.train.run import train as run

    console = Console()
    result = run(Config.load(config), resume=resume, console=console)
    sets = {"validation": result.validation, **({"test": result.test} if result.test else {})}
    done = f"{result.steps} steps in {result.minutes:.1f} minutes"
    console.print(f"\nbest model: [bold]{result.model}[/], {done}", highlight=False, soft_wrap=True)
    console.print(training_table(sets, load(result.model).properties))
    following = f"next: carten evaluate {result.model} DATA --report report.html"
    console.print(following, style="dim", highlight=False, soft_wrap=True)
