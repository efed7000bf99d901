"""carten init, carten check, carten convert."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from carten.cli.options import DataFiles, FileFormat, LabelArguments, Overwrite, parse_labels, require_new

if TYPE_CHECKING:
    from carten.data.guess import Guess
    from carten.data.labels import Label
    from carten.properties.routes import Property

WEIGHTS = {"energy": 100.0, "forces": 10.0}


def init_command(
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Training data whose labels are written into the configuration.", show_default=False
        ),
    ] = None,
    preset: Annotated[Literal["carten", "tace", "ictp"], typer.Option(help="Architecture of the network.")] = "carten",
    every: Annotated[bool, typer.Option("--all", help="Print every option there is, commented out.")] = False,
    format: FileFormat = None,
) -> None:
    """Print a short commented configuration: [bold]carten init --data train.extxyz > config.yaml[/].

    Every key except data.train has a default: delete the lines you do not change.
    """
    write = full_configuration if every else configuration
    if data is None:
        typer.echo(write(Path("train.extxyz"), preset, {}), nl=False)
        return
    guess = _guess(data, format)
    keys = {label.name: label.file_key for label in guess.labels}
    typer.echo(write(data, preset, keys, [label.name for label in guess.inputs], _notes(guess)), nl=False)


def full_configuration(
    data: Path, preset: str, keys: Mapping[str, str], inputs: Sequence[str] = (), notes: Sequence[str] = ()
) -> str:
    """The text of a configuration with every option; those with a default are commented out.

    Args:
        data: training data.
        preset: architecture of the network.
        keys: name of each property's label in the data; energy and forces when empty.
        inputs: names of inputs in the data; they are offered as a comment, not chosen.
        notes: comments on the labels.
    """
    from carten.report.options import commented
    from carten.train.config import Config

    document: dict[str, object] = {"data": {"train": str(data)}, "model": {"preset": preset}}
    active = {"data", "data.train", "model", "model.preset"}
    if keys:
        document["properties"] = {name: {"key": key, "weight": WEIGHTS.get(name, "auto")} for name, key in keys.items()}
        active.add("properties")
    needed = _needed_features(preset, keys)
    document["model"] = {"preset": preset, **needed}
    active |= {f"model.{option}" for option in needed}
    offered = [f"# Inputs in the data: {', '.join(inputs)}"] if inputs else []
    head = "# Every option with its default. Remove the '# ' in front of those that you change."
    return "\n".join([head, *offered, *notes, *commented(Config.parse(document), active)]) + "\n"


def configuration(
    data: Path, preset: str, keys: Mapping[str, str], inputs: Sequence[str] = (), notes: Sequence[str] = ()
) -> str:
    """The text of a configuration.

    Args:
        data: training data.
        preset: architecture of the network.
        keys: name of each property's label in the data; energy and forces when empty.
        inputs: names of inputs in the data; they are offered as a comment, not chosen.
        notes: comments on the labels.
    """
    from carten.model.config import NetworkConfig
    from carten.properties.spec import property_table

    network = NetworkConfig.model_validate({"preset": preset})
    table = property_table()
    keys = keys or {"energy": "energy", "forces": "forces"}
    needed = _needed_features(preset, keys)
    pseudotensors = "\n  odd_products: true  # for pseudotensors" if "odd_products" in needed else ""
    offered = ", ".join(f"{name}: {{}}" for name in inputs) or "total_charge: {default: 0}"
    remark = "these are in the data" if inputs else "fidelity, charge, spin, fields, ..."
    rows = "\n".join([*(f"  {_row(table[name], key)}" for name, key in keys.items()), *(f"  {note}" for note in notes)])
    return f"""# Train with: carten train config.yaml
data:
  train: {_plain(str(data))}  # extended XYZ, .traj, VASP, CIF, ..., an ASE database, or a list of them
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
  l_max_edges: {needed.get("l_max_edges", network.l_max_edges)}
  l_max_features: {network.l_max_features}  # highest rank of messages: 0 is fastest, 2 most accurate{pseudotensors}

optimizer: {{name: soap, lr: 0.01}}  # or adamw, muon
schedule: {{name: cosine}}  # or wsd, plateau, constant
training:
  epochs: 200
  # max_minutes: 60

output: run  # folder for best.carten, last.ckpt, metrics.csv
"""


def _needed_features(preset: str, names: Iterable[str]) -> dict[str, object]:
    """Options of the network, other than its defaults, without which it has no features for some properties."""
    from carten.model.config import NetworkConfig
    from carten.properties.heads import parts_of
    from carten.properties.planning import has_readout, sources
    from carten.properties.spec import property_table

    network = NetworkConfig.model_validate({"preset": preset})
    rows = [property_table()[name] for name in names]
    available = {row.name for row in rows}
    read = [row for row in rows if has_readout(row) or not available.issuperset(sources(row))]
    parts = [part for row in read for part in parts_of(row)]
    rank = max((part.l for part in parts), default=0)
    options: dict[str, object] = {"l_max_edges": rank} if rank > network.l_max_edges else {}
    return options if all(part.natural for part in parts) else {**options, "odd_products": True}


def _row(row: Property, key: str) -> str:
    return f"{row.name}: {{key: {_plain(key)}, unit: {row.unit}, weight: {WEIGHTS.get(row.name, 'auto')}}}"


def _plain(text: str) -> str:
    """A string in YAML, quoted unless it is a plain word there."""
    import yaml

    is_plain = re.fullmatch(r"[\w./-]+", text) and yaml.safe_load(text) == text
    return text if is_plain else json.dumps(text, ensure_ascii=False)


def _guess(data: Path, format: str | None) -> Guess:
    from carten.data.guess import guess_labels
    from carten.data.lookup import label_names
    from carten.data.read import read_structures
    from carten.errors import DataError

    structures = read_structures(data, format)
    guess = guess_labels(structures)
    if not guess.labels:
        names = dict.fromkeys(name for _, atoms in structures for name in label_names(atoms))
        labels = f"its labels are {', '.join(names)}" if names else "it has no labels"
        raise DataError(f"{data}: no label of a known property; {labels}: start from carten init without --data")
    return guess


def _notes(guess: Guess) -> list[str]:
    """What else could be labels, as comments."""
    notes = [f"# {name} may also be: {', '.join(keys)}" for name, keys in guess.others.items() if keys]
    notes += [f"# {key} is zero in all structures" for key in guess.zero]
    return notes + [
        f'# {_plain(tensor.key)}: {{scope: {tensor.scope}, indices: "{tensor.indices}", parity: 1, unit: ...}}'
        for tensor in guess.tensors
    ]


def convert_command(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA... OUT.aselmdb",
            help="Files, directories or patterns, and last the file to write.",
            show_default=False,
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Training configuration that says what labels and inputs are called, and the cutoff.",
            show_default=False,
        ),
    ] = None,
    label: LabelArguments = None,
    cutoff: Annotated[
        float | None, typer.Option(min=0.1, max=100.0, help="Radius in Å for counting neighbours (default: 5).")
    ] = None,
    format: FileFormat = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert data to one ASE-LMDB file, which training reads lazily: [bold]carten convert runs/*.xml train.aselmdb[/].

    Labels that are named get the names and units of carten, everything else is kept. A conversion that was stopped goes
    on where it was when the command is repeated.
    """
    from rich.console import Console

    from carten.cli.progress import progress
    from carten.data.convert import Conversion, convert
    from carten.errors import ConfigError

    *sources, output = paths
    if not sources:
        raise ConfigError("expected data files and, last, the file to write: carten convert DATA... OUT.aselmdb")
    require_new(output, overwrite)
    labels, inputs, from_config = _conversion_labels(config, label)
    conversion = Conversion(labels, inputs, cutoff or from_config, format)
    console = Console(stderr=True)

    def say(line: str) -> None:
        if not (console.is_terminal and line.startswith("converting")):  # there the bar shows it
            console.print(line, highlight=False, soft_wrap=True, markup=False)

    with progress(console, f"converting to {output}", None) as report:
        count = convert(sources, output, conversion, report, say)
    typer.echo(f"{output}: {count:,} structures, {output.stat().st_size / 2**20:.1f} MiB")


def _conversion_labels(config: Path | None, texts: Sequence[str] | None) -> tuple[list[Label], list[Label], float]:
    """Properties, inputs and the cutoff of a configuration, and those of the command line."""
    from dataclasses import replace

    from carten.data.labels import Label
    from carten.properties.routes import Property
    from carten.properties.spec import input_table, property_table
    from carten.train.conditions import input_row
    from carten.train.config import Config
    from carten.train.sets import configured_labels

    chosen = parse_labels(texts, {**property_table(), **input_table()})
    cutoff = 5.0
    if config is not None:
        settings = Config.load(config)
        cutoff = settings.model.cutoff
        inputs = {name: Label(input_row(name, row), row.key or name, row.unit) for name, row in settings.inputs.items()}
        chosen = {**configured_labels(settings), **inputs, **chosen}
    optional = [replace(label, required=False) for label in chosen.values()]
    properties = [label for label in optional if isinstance(label.row, Property)]
    return properties, [label for label in optional if label not in properties], cutoff


def check_command(
    data: DataFiles,
    label: LabelArguments = None,
    cutoff: Annotated[float, typer.Option(min=0.1, max=100.0, help="Radius in Å for counting neighbours.")] = 5.0,
    format: FileFormat = None,
) -> None:
    """Check data before training: labels, units, sizes, outliers, duplicates, reference energies, closest contacts.

    Exits with status 1 if training would refuse a structure or a label.
    """
    from carten.data.check import check as check_data
    from carten.data.summary import report_lines
    from carten.properties.routes import Property
    from carten.properties.spec import input_table, property_table
    from carten.text import printable

    chosen = list(parse_labels(label, {**property_table(), **input_table()}).values())
    labels = [choice for choice in chosen if isinstance(choice.row, Property)]
    inputs = [choice for choice in chosen if not isinstance(choice.row, Property)]
    report = check_data(data, labels or None, cutoff, inputs or None, format, lambda line: typer.echo(line, err=True))
    for line in report_lines(report):
        typer.echo(printable(line))
    if report.problems:
        raise typer.Exit(1)
