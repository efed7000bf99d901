"""Many files to one ASE-LMDB file with its index: labels are checked, named and converted once; it can be resumed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from carten.data.collection import GeometryBuilder, keep_geometry, keep_table
from carten.data.labels import Label, carries, frame_from
from carten.data.lookup import find_entry
from carten.data.progress import Say, counted, silent
from carten.data.read import Paths, data_files, iterate_file
from carten.data.store import Store, stamp
from carten.data.table import TableBuilder
from carten.data.writer import StoreWriter
from carten.errors import ConfigError
from carten.model.conditions import Category, Input

if TYPE_CHECKING:
    from ase import Atoms

RESULTS = ("energy", "forces", "stress", "dipole")
"""Properties that stand among the results, where other programs look; the others are under their own names."""
SOURCE = "source_file"
"""Entry that names the file a structure is from, where there are several."""


@dataclass(frozen=True)
class Conversion:
    """How structures are written.

    Args:
        labels: properties that are renamed and brought to the units of carten.
        inputs: the same for inputs of models.
        cutoff: of the neighbours that are counted, Å.
        format: ASE's name of the format of all files, for files that are trusted.
    """

    labels: Sequence[Label] = ()
    inputs: Sequence[Label] = ()
    cutoff: float = 5.0
    format: str | None = None


def convert(
    paths: Paths,
    output: Path,
    conversion: Conversion | None = None,
    report: Callable[[int], object] = int,
    say: Say = silent,
) -> int:
    """Write all structures of some files to an ASE-LMDB file; returns how many.

    It is written beside ``output`` as ``output.partial`` and appears under its name when it is complete. After an end
    at any moment the same call goes on where the last was.

    Args:
        paths: as :func:`carten.data.read.read_structures`.
        output: name of the file, ``.aselmdb``.
        conversion: what is done with labels.
        report: takes the number of structures that are written.
        say: takes lines for the user.

    Raises:
        DataError: a file or structure is wrong, or there is no space left.
        ConfigError: the file has another ending, or was begun with other files or labels.
    """
    conversion = conversion or Conversion()
    if output.suffix != ".aselmdb":
        raise ConfigError(f"{output}: the name of an ASE-LMDB file ends with .aselmdb, by which programs recognise it")
    files = data_files(paths)
    partial = output.with_name(f"{output.name}.partial")
    task = _task(conversion)
    table, geometry = TableBuilder(), GeometryBuilder(conversion.cutoff)
    with StoreWriter(partial) as writer:
        _begin(writer, task, files, say)
        for where, atoms in islice(Store(partial), writer.count) if writer.count else ():
            table.add(atoms)
            geometry.add(frame_from(atoms, where=where))
        remaining = _remaining(files, conversion.format, writer)
        for where, atoms in counted(remaining, f"converting to {output}", None, say):
            converted = relabelled(atoms, conversion, where)
            if len(files) > 1:
                converted.info[SOURCE] = where.rpartition(", frame ")[0]
            geometry.add(frame_from(converted, where=where))
            table.add(converted)
            writer.append(converted)
            report(writer.count)
    os.replace(partial, output)
    store, mark = Store(output), stamp(output)
    keep_geometry(output, mark, conversion.cutoff, geometry.finish())
    if problem := keep_table(store, table.finish(), mark):
        say(f"{problem}: the index is not kept, {output} is looked through when it is used")
    return len(store)


def relabelled(atoms: Atoms, conversion: Conversion, where: str) -> Atoms:
    """A copy with labels and inputs under the names of carten and ASE, in their units.

    Raises:
        DataError: a label or input is wrong; the message names it.
    """
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.stress import full_3x3_to_voigt_6_stress

    inputs = [label for label in conversion.inputs if carries(atoms, label)]
    numbers = [label for label in inputs if not _is_category(label)]
    kinds = {label.name: find_entry(atoms, label.keys) for label in inputs if _is_category(label)}
    frame = frame_from(atoms, conversion.labels, numbers, where)
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    copy: Atoms = atoms.copy()
    for key in {key for label in (*conversion.labels, *inputs) for key in label.keys}:
        for place in (copy.info, copy.arrays, results):
            place.pop(key, None)
    for name, value in frame.labels.items():
        if name in RESULTS:
            results[name] = full_3x3_to_voigt_6_stress(value) if name == "stress" else _plain(value)
        else:
            copy.info[name] = _plain(value)
    for label in numbers:
        value = frame.inputs[label.name]
        copy.info[label.name] = value if label.row.scope == "atom" else _plain(value[0])
    copy.info.update(kinds)
    copy.calc = SinglePointCalculator(copy, **results) if results else None
    return copy


def _is_category(label: Label) -> bool:
    return isinstance(label.row, Input) and isinstance(label.row.embed, Category)


def _plain(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value


def _task(conversion: Conversion) -> dict[str, Any]:
    """What is done with structures, ready for JSON."""
    labels = (*conversion.labels, *conversion.inputs)
    named = {label.name: {"key": label.file_key, "unit": _unit(label)} for label in labels}
    identity = json.dumps([named, conversion.cutoff, conversion.format])
    return {"labels": named, "task": hashlib.sha256(identity.encode()).hexdigest()}


def _unit(label: Label) -> str:
    _ = label.factor  # a unit that does not fit is an error
    return label.unit if label.unit is not None else label.row.unit


def _begin(writer: StoreWriter, task: Mapping[str, Any], files: Sequence[Path], say: Say) -> None:
    """Make sure that what a file has is of the same task, and of the first of the files."""
    before = writer.metadata.get("carten")
    if before is None and not writer.count:
        writer.metadata = {"carten": {**task, "begun": []}}
        return
    begun = [] if before is None else [str(name) for name, _ in before["begun"]]
    if before is None or before.get("task") != task["task"] or begun != [_identity(f) for f in files[: len(begun)]]:
        raise ConfigError(
            f"{writer.path} was begun with other files, labels or another cutoff: remove it to begin anew"
        )
    say(f"going on after {writer.count:,} structures of {writer.path}")


def _identity(file: Path) -> str:
    facts = file.stat()
    return f"{file} ({facts.st_size} bytes, {facts.st_mtime_ns})"


def _remaining(files: Sequence[Path], format: str | None, writer: StoreWriter) -> Iterator[tuple[str, Atoms]]:
    """Structures that are not written yet; the metadata say with which row each file begins."""
    begun = [(str(name), int(first)) for name, first in writer.metadata["carten"]["begun"]]
    skipped = writer.count - begun[-1][1] if begun else 0
    for number in range(max(len(begun) - 1, 0), len(files)):
        if number == len(begun):
            begun.append((_identity(files[number]), writer.count))
            writer.metadata["carten"]["begun"] = begun
        yield from islice(iterate_file(files[number], format), skipped, None)
        writer.commit()
        skipped = 0
