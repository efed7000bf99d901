"""carten evaluate, carten predict, carten info."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carten.cli.options import (
    Backend,
    DataFiles,
    Device,
    Dtype,
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
    from rich.console import Console

    from carten.data.labels import Label
    from carten.properties.potential import Potential
    from carten.report.page import EvaluatedData
    from carten.uncertainty import Ensemble

MaxAtoms = Annotated[int, typer.Option("--max-atoms", min=1, help="Atoms evaluated together: less needs less memory.")]


def evaluate_command(
    model: ModelFile,
    data: DataFiles,
    label: LabelArguments = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a report: one HTML file with figures and structures.")
    ] = None,
    train_data: Annotated[
        list[Path] | None,
        typer.Option(
            "--train", metavar="FILE", help="Training data, shown beside DATA in the report. May be repeated."
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Key of the group of each structure in the files, or file "
            "(default: as in training, else config_type or group, else file).",
            show_default=False,
        ),
    ] = None,
    structures_csv: Annotated[
        Path | None,
        typer.Option("--structures", metavar="FILE", help="Write labels, predictions and errors by structure as CSV."),
    ] = None,
    atoms_csv: Annotated[
        Path | None, typer.Option("--atoms", metavar="FILE", help="Write those of each atom as CSV.")
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV of learning curves (default: metrics.csv next to the model)."),
    ] = None,
    json_file: JsonFile = None,
    max_atoms: MaxAtoms = 500,
    device: Device = None,
    dtype: Dtype = None,
    backend: Backend = "auto",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Errors of a model on labelled structures, for every property that both have: in all, by element and by group.

    Labels are looked up as they were in training, or as --label says.
    """
    from rich.console import Console

    from carten.cli.tables import evaluation_table, group_table, uncertainty_table
    from carten.data.write import replacing
    from carten.errors import ConfigError
    from carten.report.assembly import evaluation_report
    from carten.uncertainty import model_header
    from carten.workflows.error_files import write_atoms, write_structures

    outputs = [path for path in (report, json_file, structures_csv, atoms_csv) if path is not None]
    for output in outputs:
        require_new(output, overwrite)
    if len({output.resolve() for output in outputs}) < len(outputs):
        raise ConfigError("two of --report, --json, --structures and --atoms name the same file")
    if metrics is not None and not metrics.is_file():
        raise ConfigError(f"--metrics: there is no file {metrics}")
    head, potential = model_header(model), load_any_model(model, device, dtype, backend)
    labels = trained_labels(head, potential.properties) | parse_labels(label, potential.properties)
    console = Console()
    read = partial(_evaluated, potential, head, labels, group, max_atoms, console, format=format)
    evaluated, key = read(data)
    evaluation, names = evaluated.evaluation, ", ".join(path.name for path in data)
    console.print(evaluation_table(evaluation))
    if any(comparison.quality is not None for comparison in evaluation.comparisons.values()):
        console.print("", uncertainty_table(evaluation), sep="\n")
    if len(set(evaluation.groups)) > 1:
        console.print("", group_table(evaluation, key), sep="\n")
    for path, write in ((structures_csv, write_structures), (atoms_csv, write_atoms)):
        if path is not None:
            write(path, evaluation, evaluated.frames)
    if json_file is not None:
        summary = {"model": str(model), "data": [str(path) for path in data], **evaluation.summary()}
        with replacing(json_file) as file:
            file.write(json.dumps(summary, indent=2) + "\n")
    if report is not None:
        sets = {names: evaluated} | ({"training data": read(train_data)[0]} if train_data else {})
        beside = model.parent / "metrics.csv"
        curves = metrics or (beside if beside.exists() else None)
        with replacing(report) as file:
            file.write(evaluation_report(model.name, names, head, sets, curves))
        console.print(f"report: {report.resolve()}", highlight=False, soft_wrap=True)


def _evaluated(
    model: Potential | Ensemble,
    head: Mapping[str, Any],
    labels: Mapping[str, Label],
    group: str | None,
    max_atoms: int,
    console: Console,
    paths: Sequence[Path],
    format: str | None,
) -> tuple[EvaluatedData, str]:
    """Errors on the structures of some files, and what tells their groups."""
    from carten.cli.progress import progress
    from carten.data.collection import collection_of
    from carten.data.labels import frames_from
    from carten.data.read import read_structures
    from carten.report.page import EvaluatedData
    from carten.train.groups import FILE, find_groups
    from carten.workflows.evaluate import evaluate

    structures = read_structures(paths, format)
    key = group or head["provenance"].get("config", {}).get("data", {}).get("group")
    if group is None and key != FILE and not any(key in atoms.info for _, atoms in structures):
        key = None  # that of training is not in these files
    groups = find_groups(collection_of(structures), key)
    inputs = trained_labels(head, model.inputs, section="inputs")
    frames = frames_from(structures, list(labels.values()), list(inputs.values()))
    members = [groups.names[code] for code in groups.codes.tolist()]
    with progress(console, f"{len(frames)} structures", len(frames)) as done:
        evaluation = evaluate(model, frames, max_atoms=max_atoms, advance=done, groups=members)
    return EvaluatedData(frames, evaluation, members), groups.key


def predict_command(
    model: ModelFile,
    data: DataFiles,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Extended XYZ.", show_default=False)],
    properties: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="What to predict (default: all that the model was trained on)."),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            help="Prefix for predicted keys (default: none, or carten_ if the files have labels of these names, which "
            "are kept).",
            show_default=False,
        ),
    ] = None,
    max_atoms: MaxAtoms = 500,
    device: Device = None,
    dtype: Dtype = None,
    backend: Backend = "auto",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Write structures with predicted properties to an extended XYZ file.

    Everything in the input files is kept; labels are replaced only with an explicit --prefix "". Energy, forces,
    stress, dipole and charges are written where ASE expects them, other tensors flattened row-major; carten_units says
    in which units.
    """
    from collections import Counter

    from rich.console import Console

    from carten.cli.progress import progress
    from carten.data.read import read_structures
    from carten.data.write import replacing, write_structure
    from carten.errors import ConfigError
    from carten.uncertainty import model_header
    from carten.workflows.predict import PREFIX, predict, replaced, with_values

    if output.suffix not in (".extxyz", ".xyz"):
        raise ConfigError(f"predictions are written as extended XYZ: expected a name ending in .extxyz, found {output}")
    if prefix and not re.fullmatch(r"[A-Za-z_][\w-]*", prefix):
        raise ConfigError(f"--prefix: expected letters, digits and underscores, found {prefix!r}")
    require_new(output, overwrite)
    names = None if properties is None else [name.strip() for name in properties.split(",") if name.strip()]
    if names is not None and not names:
        raise ConfigError(f"--properties: expected names with commas between them, found {properties!r}")
    potential = load_any_model(model, device, dtype, backend)
    inputs = trained_labels(model_header(model), potential.inputs, section="inputs")
    structures = read_structures(data, format)
    where, frames = [name for name, _ in structures], [atoms for _, atoms in structures]
    if prefix is None:
        names_written = names or potential.requested
        prefix = PREFIX if any(replaced(atoms, names_written, "") for atoms in frames) else ""
    written, lost = Counter[str](), Counter[str]()
    with progress(Console(), f"{len(frames)} structures", len(frames)) as done, replacing(output) as file:
        predictions = predict(potential, frames, names, max_atoms, inputs, where)
        for number, (atoms, values) in enumerate(zip(frames, predictions, strict=True), start=1):
            lost.update(replaced(atoms, values, prefix))
            written.update(list(values))
            write_structure(file, with_values(atoms, values, potential.properties, prefix))
            done(number)
        if not written:
            raise ConfigError(f"--properties: {properties} has no meaning for any of these structures")
    typer.echo(f"{len(frames)} structures: {output}, with {', '.join(f'{prefix}{name}' for name in written)}")
    for name in names or potential.requested:
        if written[name] < len(frames):
            absent = len(frames) - written[name]
            typer.echo(f"{name} is per volume: left out for {absent} structures that are not periodic", err=True)
    for key, count in lost.items():
        typer.echo(f"{key} of {count} structures was there already: replaced by the prediction", err=True)


def _sizes_of_groups(potential: Potential, parameters: int) -> str:
    """Names that ``freeze`` and ``lora`` know, with their shares of the parameters."""
    from carten.train.parts import parts_of_model

    sizes = {name: parameter.numel() for name, parameter in potential.named_parameters()}
    groups = parts_of_model(potential).items()
    return ", ".join(f"{group} {sum(map(sizes.__getitem__, names)) / parameters:.1%}" for group, names in groups)


def info_command(
    model: ModelFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print the header as JSON.")] = False,
) -> None:
    """What a model is: elements, properties, network, work, reference energies, errors, how it was trained.

    The work is that of one evaluation for each of 64 atoms that have the average number of neighbours.
    """
    import yaml

    from carten.deploy.files import is_library

    if is_library(model):
        from carten.cli.export import print_library

        print_library(model, as_json)
        return
    from carten.properties.facts import described_header, sources_with
    from carten.properties.io import has_checksum
    from carten.properties.isolated import surprises
    from carten.text import amount, printable
    from carten.uncertainty import Ensemble, model_header
    from carten.workflows.work import per_atom

    head, loaded = model_header(model), load_any_model(model, "cpu", None, "reference")
    potential = loaded.model if isinstance(loaded, Ensemble) else loaded
    parameters = sum(parameter.numel() for parameter in potential.parameters())
    work = per_atom(potential)
    if as_json:
        amounts = {"multiply_adds_per_atom": work.multiply_adds, "bytes_per_atom": work.bytes}
        typer.echo(json.dumps({**head, "parameters": parameters, **amounts}, indent=2))
        return
    lines = [("format", f"{head['format']}, written by carten {head['version']}")]
    lines += described_header(head, parameters)
    lines.append(("groups", _sizes_of_groups(potential, parameters)))
    operations, traffic = amount(work.multiply_adds), amount(work.bytes)
    lines.append(("work", f"{operations} multiply-adds, {traffic}B per atom for {work.name}"))
    if isinstance(loaded, Ensemble):
        lines.append(("uncertainty", loaded.description))
    if not has_checksum(model):
        lines.append(("checksum", "none: written by an older carten; damage of the file would go unnoticed"))
    lines += [("isolated", text) for text in surprises(potential)]
    configurations = [each["config"] for each in sources_with(head["provenance"]) if "config" in each]
    for k, config in enumerate(configurations):
        which = f" of training {k + 1}" if len(configurations) > 1 else ""
        lines.append((f"configuration{which}", yaml.safe_dump(config, sort_keys=False, allow_unicode=True)))
    for name, text in lines:
        typer.echo(printable(f"{name:<15}{text}" if "\n" not in text else f"{name}\n{text}"))
