"""carten demo."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

TRAIN, TEST = "ethanol_xtb_train", "ethanol_xtb_test"


def demo_command(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="New folder for all files (default: demo, else demo-2, ...)."
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.01, max=1e4, help="Training time in minutes.")] = 2.0,
) -> None:
    """Train a model of ethanol on data shipped with carten, evaluate it, run dynamics, write a report.

    Takes three minutes on two cores.
    """
    import ase.io
    from rich.console import Console

    from carten import datasets
    from carten.cli import dynamics, model, training

    folder = output or next(path for path in _names() if not path.exists())
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: choose another folder with --output")
    folder.mkdir(parents=True)
    config, run = folder / "config.yaml", folder / "run"
    config.write_text(_configuration(minutes), encoding="utf-8")
    console = Console()
    console.print("compiling kernels for this model, once")
    _compile()
    console.rule("carten train config.yaml")
    training.train_command(config)
    best, test = run / "best.carten", datasets.path(TEST)
    console.rule(f"carten evaluate run/best.carten {TEST} --report report.html")
    model.evaluate_command(best, [test], report=folder / "report.html", json_file=folder / "errors.json")
    console.rule("carten md run/best.carten start.extxyz --steps 1000")
    start = folder / "start.extxyz"
    ase.io.write(start, ase.io.read(test, index=0))
    dynamics.md_command(best, start, steps=1000, output=folder / "md.extxyz")
    console.rule()
    console.print(f"open [bold]{(folder / 'report.html').resolve()}[/]", soft_wrap=True)


def _configuration(minutes: float) -> str:
    from carten import datasets

    return CONFIG.format(data=json.dumps(str(datasets.path(TRAIN))), minutes=minutes)


def _compile() -> None:
    """Train for one step, elsewhere, so that the minutes are spent on training."""
    import io
    import tempfile

    import yaml
    from rich.console import Console

    from carten.train.config import Config
    from carten.train.run import train

    with tempfile.TemporaryDirectory() as folder:
        train(Config.parse(yaml.safe_load(_configuration(1e-6)), Path(folder)), console=Console(file=io.StringIO()))


def _names() -> Iterator[Path]:
    yield Path("demo")
    yield from (Path(f"demo-{number}") for number in count(2))


CONFIG = """# Ethanol from GFN2-xTB molecular dynamics; a small network, trained for the duration of the demo.
data:
  train: {data}
  validation: 50
  batch: {{structures: 10}}
properties:
  energy: {{weight: 1.0}}
  forces: {{weight: 10.0}}
model:
  cutoff: 4.5
  n_layers: 2
  n_channels: 16
  l_max_edges: 2
  l_max_features: 1
optimizer: {{name: soap, lr: 0.01}}
training:
  epochs: 1000
  max_minutes: {minutes}
  validate_every: 2
output: run
"""
