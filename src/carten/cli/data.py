"""carten init, carten check."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from carten.cli.options import DataFiles, Labels, parse_labels

if TYPE_CHECKING:
    from carten.properties.routes import Property

WEIGHTS = {"energy": 1.0, "forces": 10.0}


def init_command(
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Training data whose labels are written into the configuration.", show_default=False
        ),
    ] = None,
    preset: Annotated[Literal["tace", "ictp"], typer.Option(help="Architecture of the network.")] = "tace",
    every: Annotated[bool, typer.Option("--all", help="Print every option there is, commented out.")] = False,
) -> None:
    """Print a short commented configuration: [bold]carten init --data train.extxyz > config.yaml[/].

    Every key except data.train has a default: delete the lines you do not change.
    """
    keys, inputs = ({}, []) if data is None else _labels_in(data)
    write = full_configuration if every else configuration
    typer.echo(write(data or Path("train.extxyz"), preset, keys, inputs), nl=False)


def full_configuration(data: Path, preset: str, keys: Mapping[str, str], inputs: Sequence[str] = ()) -> str:
    """The text of a configuration with every option; those with a default are commented out.

    Args:
        data: training data.
        preset: architecture of the network.
        keys: name of each property's label in the data; energy and forces when empty.
        inputs: names of inputs in the data; they are offered as a comment, not chosen.
    """
    from carten.report.options import commented
    from carten.train.config import Config

    document: dict[str, object] = {"data": {"train": str(data)}, "model": {"preset": preset}}
    active = {"data", "data.train", "model", "model.preset"}
    if keys:
        document["properties"] = {name: {"key": key, "weight": WEIGHTS.get(name, "auto")} for name, key in keys.items()}
        active.add("properties")
    offered = [f"# Inputs in the data: {', '.join(inputs)}"] if inputs else []
    head = "# Every option with its default. Remove the '# ' in front of those that you change."
    return "\n".join([head, *offered, *commented(Config.parse(document), active)]) + "\n"


def configuration(data: Path, preset: str, keys: Mapping[str, str], inputs: Sequence[str] = ()) -> str:
    """The text of a configuration.

    Args:
        data: training data.
        preset: architecture of the network.
        keys: name of each property's label in the data; energy and forces when empty.
        inputs: names of inputs in the data; they are offered as a comment, not chosen.
    """
    from carten.model.config import NetworkConfig
    from carten.properties.spec import property_table

    network = NetworkConfig.model_validate({"preset": preset})
    table = property_table()
    keys = keys or {"energy": "energy", "forces": "forces"}
    offered = ", ".join(f"{name}: {{}}" for name in inputs) or "total_charge: {default: 0}"
    remark = "these are in the data" if inputs else "fidelity, charge, spin, fields, ..."
    rows = "\n".join(f"  {_row(table[name], key)}" for name, key in keys.items())
    return f"""# Train with: carten train config.yaml
data:
  train: {_plain(str(data))}  # any file ASE reads, an ASE database, or a list of them
  validation: 0.1  # a fraction, a number of structures, or a file
  # test: test.extxyz  # evaluated once, at the end
  batch: {{structures: 5}}  # or {{atoms: 500}}, {{edges: 20000}}; limits can be combined

properties:  # to learn: name and unit of the label in the data, weight in the loss
{rows}

reference_energies: auto  # from isolated atoms in the data, else a fit; or in eV: {{H: -13.6, O: -2041.8}}
# start: other.carten  # a trained model to start from; then omit the section model
# terms: [{{kind: zbl}}]  # energies added to the network: zbl, d3, d4, les, charges
# inputs: {{{offered}}}  # given to the model besides the structure: {remark}

model:
  preset: {preset}
  cutoff: {network.cutoff}  # Å
  n_layers: {network.n_layers}
  n_channels: {network.n_channels}  # fewer is faster
  correlation_order: {network.correlation_order}  # neighbours in one product, besides the central atom
  l_max_edges: {network.l_max_edges}
  l_max_features: {network.l_max_features}  # highest rank of messages: 0 is fastest, 2 most accurate

optimizer: {{name: soap, lr: 0.01}}  # or adamw, muon
schedule: {{name: cosine}}  # or wsd, plateau, constant
training:
  epochs: 200
  # max_minutes: 60

output: run  # folder for best.carten, last.ckpt, metrics.csv
"""


def _row(row: Property, key: str) -> str:
    return f"{row.name}: {{key: {_plain(key)}, unit: {row.unit}, weight: {WEIGHTS.get(row.name, 'auto')}}}"


def _plain(text: str) -> str:
    """A string in YAML, quoted unless it is a plain word there."""
    import yaml

    is_plain = re.fullmatch(r"[\w./-]+", text) and yaml.safe_load(text) == text
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _labels_in(data: Path) -> tuple[dict[str, str], list[str]]:
    """Names of labels by property, equal to its name or ending in it (REF_energy, dft_forces), and names of inputs."""
    from carten.data.check import known_inputs
    from carten.data.labels import label_names
    from carten.data.read import read_structures
    from carten.errors import DataError
    from carten.properties.spec import property_table

    structures = read_structures(data)
    names = dict.fromkeys(name for _, atoms in structures for name in label_names(atoms))
    keys = {}
    for name in property_table():
        matches = [key for key in names if key == name] or [key for key in names if key.lower().endswith(f"_{name}")]
        if matches:
            keys[name] = matches[0]
    if not keys:
        labels = f"its labels are {', '.join(names)}" if names else "it has no labels"
        raise DataError(f"{data}: no label of a known property; {labels}: start from carten init without --data")
    return keys, [label.name for label in known_inputs(structures)]


def check_command(
    data: DataFiles,
    label: Labels = None,
    cutoff: Annotated[float, typer.Option(min=0.1, max=100.0, help="Radius in Å for counting neighbours.")] = 5.0,
) -> None:
    """Check data before training: labels, units, sizes, outliers, duplicates, reference energies, closest contacts.

    Exits with status 1 if training would refuse a structure or a label.
    """
    from carten.data.check import check as check_data
    from carten.data.summary import lines
    from carten.properties.routes import Property
    from carten.properties.spec import input_table, property_table
    from carten.report.text import printable

    chosen = list(parse_labels(label, {**property_table(), **input_table()}).values())
    labels = [choice for choice in chosen if isinstance(choice.row, Property)]
    inputs = [choice for choice in chosen if not isinstance(choice.row, Property)]
    report = check_data(data, labels or None, cutoff, inputs or None)
    for line in lines(report):
        typer.echo(printable(line))
    if report.problems:
        raise typer.Exit(1)
