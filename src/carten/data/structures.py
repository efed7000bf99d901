"""The one way from structures to graphs, and what is read from a structure besides its atoms.

Training, prediction, evaluation and the calculator all come through here: an error names the structure, positions stay
in float64, inputs are found under the same names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ase
import numpy as np
import numpy.typing as npt
from ase.data import chemical_symbols

from carten.data.neighbours import StructureLike, graph
from carten.errors import DataError, ModelError
from carten.math.arrays import Array
from carten.physics.names import FRAGMENT_CHARGE

if TYPE_CHECKING:
    from carten.data.labels import Label
    from carten.model.conditions import Input
    from carten.model.graph import Graph


def structure_graph(structure: StructureLike, cutoff: float, inputs: Mapping[str, Array], where: str) -> Graph:
    """The graph of a structure in float64, as models see it.

    Args:
        structure: an ``ase.Atoms``, or a :class:`carten.data.labels.Frame`.
        cutoff: of the model, Å.
        inputs: conditions by name, with their leading axis: see :func:`read_inputs`.
        where: name of the structure, for errors.

    Raises:
        DataError: it has no atoms, or is impossible, see :func:`carten.data.neighbours.edges`.
    """
    if len(structure.numbers) == 0:
        raise DataError(f"{where}: has no atoms; remove it")
    try:
        return graph(structure, cutoff, inputs)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def read_inputs(
    atoms: ase.Atoms,
    rows: Mapping[str, Input],
    values: Mapping[str, npt.ArrayLike],
    labels: Mapping[str, Label] | None = None,
) -> Mapping[str, Array]:
    """Values of inputs with their leading axis, (1, 3, ..) or (N, 3, ..).

    Args:
        atoms: the structure.
        rows: the inputs.
        values: those that go before the structure's own.
        labels: names and units under which the structure may have them; else they are under the name of the row, or,
            as initial charges and magnetic moments are, under ASE's.

    Raises:
        DataError: one is missing and has no default, or its shape is wrong.
        ModelError: one is given that the model does not know, or charges of fragments are prescribed that it has not.
    """
    if unknown := [name for name in values if name not in rows]:
        known = f"it knows {', '.join(rows)}" if rows else "it has no inputs"
        raise ModelError(f"inputs: there is the input {unknown[0]!r}, which the model does not know: {known}")
    if FRAGMENT_CHARGE not in rows and (FRAGMENT_CHARGE in atoms.arrays or FRAGMENT_CHARGE in atoms.info):
        raise ModelError(
            f"{atoms.get_chemical_formula()} sets {FRAGMENT_CHARGE}, but this model does not constrain total charges; "
            "train with properties.charges.route: balanced, equalised or equilibrated"
        )
    if not rows:
        return {}
    from carten.data.labels import frame_from

    if values:
        atoms = atoms.copy()
        atoms.info.update(values)
    carried = [find_label(atoms, row, (labels or {}).get(row.name)) for row in rows.values()]
    return frame_from(atoms, (), carried, atoms.get_chemical_formula()).inputs


def find_label(atoms: ase.Atoms, row: Input, label: Label | None) -> Label:
    """Where a structure keeps an input: as the label says, else under ASE's name, else under the name of the row."""
    from carten.data.labels import Label, carries

    if label is not None and carries(atoms, label):
        return label
    keys = {*atoms.info, *atoms.arrays}
    return Label(row, key=row.ase if row.ase in keys and row.name not in keys else row.name)


def is_crystal(atoms: ase.Atoms) -> bool:
    """Whether a structure is periodic in three directions, along vectors that span a volume."""
    return bool(atoms.pbc.all() and atoms.cell.rank == 3)


def require_known(numbers: Array, elements: Sequence[int], where: str) -> None:
    """Check that a model knows all elements of a structure.

    Raises:
        ModelError: it does not.
    """
    strangers = np.flatnonzero(~np.isin(numbers, elements))
    if len(strangers):
        unknown = ", ".join(chemical_symbols[number] for number in sorted(set(numbers[strangers].tolist())))
        known = ", ".join(chemical_symbols[number] for number in elements)
        others = " and others" if len(strangers) > 1 else ""
        raise ModelError(
            f"{where}: the model does not know {unknown} (atom {strangers[0]}{others}), it knows {known}: "
            "use a model trained on these elements"
        )
