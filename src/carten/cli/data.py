"""carten init, carten check."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from carten.cli.options import DataFiles, Labels, parse_labels

if TYPE_CHECKING:
    from carten.properties.spec import Property

WEIGHTS = {"energy": 1.0, "forces": 10.0}


def init(
    data: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Training data: its labels are filled in.", show_default=False)
    ] = None,
    preset: Annotated[Literal["tace", "ictp"], typer.Option(help="Settings of the network.")] = "tace",
) -> None:
    """Print a short commented configuration: [bold]carten init --data train.extxyz > config.yaml[/].

    Every key but data.train has a default, so delete what you do not change.
    """
    keys, told = ({}, []) if data is None else _found(data)
    typer.echo(configuration(data or Path("train.extxyz"), preset, keys, told), nl=False)


def configuration(data: Path, preset: str, keys: Mapping[str, str], told: Sequence[str] = ()) -> str:
    """The text of a configuration.

    Args:
        data: training data.
        preset: of the network.
        keys: by property, what its label is called in the data; energy and forces when empty.
        told: inputs in the data; they are offered, not chosen.
    """
    from carten.model.config import NetworkConfig
    from carten.properties.spec import property_table

    network = NetworkConfig.model_validate({"preset": preset})
    table = property_table()
    keys = keys or {"energy": "energy", "forces": "forces"}
    inputs = ", ".join(f"{name}: {{}}" for name in told) or "total_charge: {default: 0}"
    there = "those in the data" if told else "fidelity, charge, spin, fields, .."
    rows = "\n".join(f"  {_row(table[name], key)}" for name, key in keys.items())
    return f"""# Train with: carten train config.yaml
data:
  train: {_plain(str(data))}  # any file ASE reads, an ASE database, or a list of them
  validation: 0.1  # a fraction, a number of structures, or a file
  # test: test.extxyz  # looked at once, at the end
  batch: {{structures: 5}}  # or {{atoms: 500}}, {{edges: 20000}}; bounds combine

properties:  # what is learned: name and unit of the label in the data, weight in the loss
{rows}

reference_energies: auto  # isolated atoms in the data, else a fit; or given in eV: {{H: -13.6, O: -2041.8}}
# start: other.carten  # a trained model to go on from; then without the section model
# terms: [{{kind: zbl}}]  # energies beside the network: zbl, d3, d4, les, charges
# inputs: {{{inputs}}}  # what the model is told: {there}

model:
  preset: {preset}
  cutoff: {network.cutoff}  # Å
  n_layers: {network.n_layers}
  n_channels: {network.n_channels}  # fewer are faster
  correlation_order: {network.correlation_order}  # atoms that meet in one product, besides the centre
  l_max_edges: {network.l_max_edges}
  l_max_features: {network.l_max_features}  # highest rank of messages: 0 is fastest, 2 most accurate

optimizer: {{name: soap, lr: 0.01}}  # or adamw, muon
schedule: {{name: cosine}}  # or wsd, plateau, constant
training:
  epochs: 200
  # max_minutes: 60

output: run  # best.carten, last.ckpt, metrics.csv, tensorboard
"""


def _row(row: Property, key: str) -> str:
    return f"{row.name}: {{key: {_plain(key)}, unit: {row.unit}, weight: {WEIGHTS.get(row.name, 'auto')}}}"


def _plain(text: str) -> str:
    """A string in YAML, quoted where it has to be."""
    special = set(text) & set(":#{}[],&*?|>!%@`'\"\\") or text != text.strip()
    return json.dumps(text, ensure_ascii=False) if special else text


def _found(data: Path) -> tuple[dict[str, str], list[str]]:
    """Names of labels by property, equal to its name or ending in it (REF_energy, dft_forces), and names of inputs."""
    from carten.data.check import known_inputs
    from carten.data.labels import label_names
    from carten.data.read import read_structures
    from carten.errors import DataError
    from carten.properties.spec import property_table

    structures = read_structures(data)
    names = dict.fromkeys(name for _, atoms in structures for name in label_names(atoms))
    found = {}
    for name in property_table():
        matches = [key for key in names if key == name] or [key for key in names if key.lower().endswith(f"_{name}")]
        if matches:
            found[name] = matches[0]
    if not found:
        there = f"the labels in it are {', '.join(names)}" if names else "it has no labels"
        raise DataError(f"{data}: no label of a known property; {there}: start from carten init without --data")
    return found, [label.name for label in known_inputs(structures)]


def check(
    data: DataFiles,
    label: Labels = None,
    cutoff: Annotated[float, typer.Option(help="Å, for the number of neighbours and the closest contacts.")] = 5.0,
) -> None:
    """Look at data before training: labels, units, sizes, outliers, duplicates, reference energies, closest contacts.

    Ends with 1 when there are structures or labels that training would refuse.
    """
    from carten.data.check import check as check_data
    from carten.data.summary import lines
    from carten.properties.spec import Property, input_table, property_table

    given = list(parse_labels(label, {**property_table(), **input_table()}).values())
    labels = [found for found in given if isinstance(found.row, Property)]
    inputs = [found for found in given if not isinstance(found.row, Property)]
    report = check_data(data, labels or None, cutoff, inputs or None)
    for line in lines(report):
        typer.echo(line)
    if report.problems:
        raise typer.Exit(1)
