"""carten committee, carten calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carten.cli.options import (
    Backend,
    DataFiles,
    Device,
    FileFormat,
    JsonFile,
    LabelArguments,
    ModelFile,
    Overwrite,
    load_any_model,
    parse_labels,
    require_new,
    trained_labels,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from carten.data.labels import Frame, Label
    from carten.workflows.calibrate import Calibration

Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Model file.", show_default=False)]


def committee_command(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...", help="Models trained on the same data with different seeds.", show_default=False
        ),
    ],
    output: Output,
    overwrite: Overwrite = False,
) -> None:
    """Join models into a committee: one file, whose predictions are means and whose spread is the uncertainty.

    Train the members with carten train config.yaml --seed N, each into a folder of its own.
    """
    from carten.uncertainty.files import join

    require_new(output, overwrite)
    ensemble = join(models, output, overwrite)
    typer.echo(f"committee of {ensemble.n_members} models: {output}")
    typer.echo(f"next: carten calibrate {output} HELD_OUT -o {output.with_stem(f'{output.stem}_calibrated')}")


def calibrate_command(
    model: ModelFile,
    data: DataFiles,
    output: Output,
    posterior: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Training data of a plain model, which gets a posterior of its last layer. May be repeated.",
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(min=2, max=4096, help="Draws from the posterior, by which it reaches forces.")
    ] = 16,
    label: LabelArguments = None,
    json_file: JsonFile = None,
    max_atoms: Annotated[int, typer.Option("--max-atoms", min=1, help="Atoms evaluated together.")] = 500,
    device: Device = None,
    backend: Backend = "auto",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Compare the uncertainties of a model with its errors on held-out DATA, and scale them to fit.

    The scales are stored in the output, a model file: 90 % of the errors are then within intervals of 90 %. A plain
    model gets its uncertainty from the data it was trained on: --posterior train.extxyz. What is printed for "after" is
    that of each half of DATA with the scale of the other half.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console

    from carten.cli.progress import progress
    from carten.data.write import replacing
    from carten.errors import ModelError
    from carten.uncertainty import Ensemble, model_header, save_ensemble
    from carten.uncertainty.files import provenances
    from carten.workflows.calibrate import calibrate, with_posterior

    for path in (output, json_file):
        require_new(path, overwrite)
    console, head = Console(), model_header(model)
    ensemble = load_any_model(model, device, None, backend)
    labels = trained_labels(head, ensemble.properties) | parse_labels(label, ensemble.properties)
    inputs = trained_labels(head, ensemble.inputs, section="inputs")
    held_out = _frames(data, format, labels, inputs)
    if posterior:
        if isinstance(ensemble, Ensemble) and ensemble.kind == "committee":
            raise ModelError(f"{model} is a committee, which has an uncertainty already: leave --posterior out")
        plain = ensemble.model if isinstance(ensemble, Ensemble) else ensemble
        trained_on = _frames(posterior, format, labels, inputs)
        with progress(console, f"posterior of {len(trained_on)} structures", len(trained_on)) as done:
            ensemble = with_posterior(plain, trained_on, held_out, draws, max_atoms, done)
    if not isinstance(ensemble, Ensemble):
        raise ModelError(
            f"{model} has no uncertainty to calibrate: give the data it was trained on (--posterior train.extxyz), "
            "train it with model.n_members above 1, or join several models by carten committee"
        )
    with progress(console, f"{len(held_out)} structures", len(held_out)) as done:
        calibration = calibrate(ensemble, held_out, max_atoms, done)
    console.print(calibration_table(calibration), "", curve_table(calibration), sep="\n")
    save_ensemble(output, calibration.ensemble, provenances(model), overwrite)
    if json_file is not None:
        summary = {
            "model": str(model),
            "units": {name: ensemble.properties[name].report_unit for name in calibration.after},
            "scales": dict(calibration.ensemble.uncertainty.scales),
            "before": {name: asdict(quality) for name, quality in calibration.before.items()},
            "after": {name: asdict(quality) for name, quality in calibration.after.items()},
        }
        with replacing(json_file) as file:
            file.write(json.dumps(summary, indent=2) + "\n")
    console.print(f"calibrated model: {output}", highlight=False, soft_wrap=True)


def _frames(
    paths: Sequence[Path], format: str | None, labels: Mapping[str, Label], inputs: Mapping[str, Label]
) -> list[Frame]:
    from carten.data.labels import frames_from
    from carten.data.read import read_structures

    return frames_from(read_structures(paths, format), list(labels.values()), list(inputs.values()))


def calibration_table(calibration: Calibration) -> Table:
    """What uncertainties are worth, before and after they are scaled."""
    from rich.table import Table

    from carten.text import number, unit

    table = Table("", "unit", box=None, pad_edge=False, header_style="dim")
    for heading in ("scale", "RMSE", "spread\nbefore", "\nafter", "in 90 %\nbefore", "\nafter", "NLL\nbefore"):
        table.add_column(heading, justify="right")
    for heading in ("\nafter", "rank\ncorr."):
        table.add_column(heading, justify="right")
    rows = calibration.ensemble.model.properties
    for name, before in calibration.before.items():
        after, scale = calibration.after[name], calibration.ensemble.uncertainty.scales[name]
        cells = [number(scale), number(before.rmse), number(before.mean), number(after.mean)]
        cells += [f"{100 * before.coverage:.1f} %", f"{100 * after.coverage:.1f} %"]
        cells += [f"{before.nll:.2f}", f"{after.nll:.2f}", f"{after.spearman:.2f}"]
        table.add_row(name, unit(rows[name].report_unit), *cells)
    return table


def curve_table(calibration: Calibration) -> Table:
    """Shares of errors within intervals of several levels, after calibration."""
    from rich.table import Table

    from carten.uncertainty.quality import LEVELS

    shown = [k for k, level in enumerate(LEVELS) if round(100 * level) % 20 == 10 or level == LEVELS[-1]]
    table = Table("errors within intervals of", box=None, pad_edge=False, header_style="dim")
    for k in shown:
        table.add_column(f"{100 * LEVELS[k]:.0f} %", justify="right")
    for name, quality in calibration.after.items():
        table.add_row(name, *(f"{100 * quality.curve[k]:.0f} %" for k in shown))
    return table


__all__ = ["calibrate_command", "committee_command"]
