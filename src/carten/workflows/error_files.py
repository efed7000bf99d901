"""Labels, predictions and errors as CSV: a line for each structure, or for each atom."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ase.data import chemical_symbols
from ase.symbols import Symbols

from carten.data.labels import Frame
from carten.data.write import replacing
from carten.workflows.comparison import Comparison
from carten.workflows.evaluate import Evaluation

Columns = dict[str, list[object]]


def write_structures(path: Path, evaluation: Evaluation, frames: Sequence[Frame]) -> None:
    """A line for each structure: values of structures, and the RMSE and largest error of those of atoms and pairs.

    Columns carry their unit in the name, ``energy_error (meV)``; a structure without a label has empty cells.
    """
    columns: Columns = {
        "structure": [frame.where for frame in frames],
        "group": list(evaluation.groups or [""] * len(frames)),
        "formula": [Symbols(frame.numbers).get_chemical_formula() for frame in frames],
        "atoms": [len(frame) for frame in frames],
    }
    for name, comparison in evaluation.comparisons.items():
        if comparison.row.scope == "structure":
            columns |= _values(name, comparison, comparison.structure, len(frames))
        else:
            columns |= _sizes_of_errors(name, comparison, len(frames))
    _write(path, columns)


def write_atoms(path: Path, evaluation: Evaluation, frames: Sequence[Frame]) -> None:
    """A line for each atom of each structure: values of atoms; columns as in :func:`write_structures`."""
    sizes = [len(frame) for frame in frames]
    groups = evaluation.groups or [""] * len(frames)
    first = np.cumsum([0, *sizes])
    columns: Columns = {
        "structure": [frame.where for frame in frames for _ in range(len(frame))],
        "group": [group for group, size in zip(groups, sizes, strict=True) for _ in range(size)],
        "atom": [atom for size in sizes for atom in range(size)],
        "element": [chemical_symbols[number] for frame in frames for number in frame.numbers],
    }
    for name, comparison in evaluation.comparisons.items():
        if comparison.row.scope == "atom":
            columns |= _values(name, comparison, first[comparison.structure] + _atoms(comparison), int(first[-1]))
    _write(path, columns)


def _values(name: str, comparison: Comparison, lines: Iterable[int], n_lines: int) -> Columns:
    """Reference, prediction and error of each component, at the lines they belong to."""
    row = comparison.row
    columns: Columns = {}
    places = list(lines)
    if comparison.uncertainty is not None:
        columns[f"{name}_uncertainty ({row.report_unit or '1'})"] = _placed(places, comparison.uncertainty, n_lines)
    for number, axes in enumerate(product("xyz", repeat=row.rank)):
        component = f"_{''.join(axes)}" if axes else ""
        reference, predicted = comparison.reference[:, number], comparison.predicted[:, number]
        for kind, values in (("reference", reference), ("predicted", predicted), ("error", predicted - reference)):
            columns[f"{name}{component}_{kind} ({row.report_unit or '1'})"] = _placed(places, values, n_lines)
        if row.extensive:
            per_atom = (predicted - reference) / comparison.sizes
            columns[f"{name}{component}_error ({row.report_unit}/atom)"] = _placed(places, per_atom, n_lines)
    return columns


def _sizes_of_errors(name: str, comparison: Comparison, n_lines: int) -> Columns:
    unit = comparison.row.report_unit or "1"
    rmse = comparison.by_structure()
    largest = np.zeros(n_lines)
    np.maximum.at(largest, comparison.structure, np.abs(comparison.error).max(axis=1))
    return {
        f"{name}_rmse ({unit})": _placed(list(rmse), rmse.values(), n_lines),
        f"{name}_max ({unit})": _placed(list(rmse), largest[list(rmse)], n_lines),
    }


def _atoms(comparison: Comparison) -> npt.NDArray[np.int64]:
    """Position in its structure of each row of an atom property; the rows of a structure follow one another."""
    starts = np.flatnonzero(np.diff(comparison.structure, prepend=-1))
    counts = np.diff([*starts, len(comparison.structure)])
    positions: npt.NDArray[np.int64] = np.arange(len(comparison.structure)) - np.repeat(starts, counts)
    return positions


def _placed(places: Sequence[int], values: Iterable[float], n_lines: int) -> list[object]:
    cells: list[object] = [""] * n_lines
    for place, value in zip(places, values, strict=True):
        cells[place] = f"{value:.12g}"
    return cells


def _write(path: Path, columns: Columns) -> None:
    with replacing(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(_lines(columns))


def _lines(columns: Columns) -> Iterator[list[object]]:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front."""
    for line in zip(*columns.values(), strict=True):
        yield [f"'{cell}" if isinstance(cell, str) and cell[:1] in "=@\t\r" and cell else cell for cell in line]
