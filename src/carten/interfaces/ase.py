"""A model as a calculator of ASE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
import numpy.typing as npt
import torch
from ase.calculators.calculator import BaseCalculator
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from carten.data.labels import VOIGT, Label, carries, frame_from, matrix
from carten.errors import ModelError
from carten.interfaces.skin import SkinList
from carten.model.conditions import Input
from carten.physics.names import FRAGMENT_CHARGE
from carten.properties.io import load
from carten.properties.potential import Potential

ALWAYS = ("energies", "energy", "forces")
"""Evaluated together, whichever of them is asked for: they cost one pass."""


class Calculator(BaseCalculator):
    """Energies, forces, stress and every other property of a model, for ASE.

    Results are in ASE's units and conventions: eV, Å, e; ``stress`` in eV/Å³ with ASE's sign, six components in Voigt
    order; other tensors in full, Hessians as 3N x 3N matrices. ``free_energy`` is ``energy``. Every property of the
    model has its name in ``implemented_properties``, and ASE's where that differs, and is there through
    ``calculator.get_property(name, atoms)``.

    Nothing is evaluated twice for the same atoms and inputs, and the neighbour list is kept while atoms move less than
    half the skin. Inputs of the model are read from ``inputs``, else from ``atoms.info`` (structures) and
    ``atoms.arrays`` (atoms) under the name of the row or the name ASE has for it, else they have the row's default.

    Args:
        model: a ``.carten`` file, or a model; a model that is passed is put into evaluation mode.
        device: e.g. ``"cpu"``, ``"cuda"``; where the model is by default.
        dtype: ``"float32"`` or ``"float64"``; as the model is by default.
        backend: see :func:`carten.load`; for a file only.
        skin: in Å, see :class:`carten.interfaces.skin.SkinList`.
        inputs: conditions by name that hold for all structures; they may be changed between calculations.

    Raises:
        ModelFileError: the file is no model.
        ModelError: the structure has an element the model does not know.
        DataError: an input is missing, or two atoms coincide.

    Example:
        >>> atoms.calc = carten.Calculator("model.carten")
        >>> atoms.get_potential_energy()
    """

    name = "carten"

    def __init__(
        self,
        model: str | Path | Potential,
        device: torch.device | str | None = None,
        dtype: str | None = None,
        backend: str = "auto",
        skin: float = 0.5,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
    ) -> None:
        BaseCalculator.__init__(self)
        potential = model if isinstance(model, Potential) else load(model, backend=backend)
        self.model: Potential = potential.to(device=device, dtype=_dtype(dtype)).freeze()
        self.inputs = dict(inputs or {})
        rows = self.model.properties
        self._known = {name: name for name in rows} | {row.ase: name for name, row in rows.items() if row.ase}
        if "energy" in rows:
            self._known["free_energy"] = "energy"
        self.implemented_properties = [*self._known]
        self._neighbours = SkinList(self.model.cutoff, skin, self.model.element_of.device)
        self._last_inputs: Mapping[str, npt.NDArray[Any]] = {}

    def check_state(self, atoms: ase.Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation."""
        changes: list[str] = BaseCalculator.check_state(self, atoms, tol=tol)
        last = self._last_inputs
        if any(name not in last or not np.array_equal(value, last[name]) for name, value in self._read(atoms).items()):
            changes.append("inputs")
        return changes

    def calculate(self, atoms: ase.Atoms, properties: Sequence[str], system_changes: Sequence[str]) -> None:
        """Add the properties, and what comes with them for free, to the results."""
        if "numbers" in system_changes:
            require_known(atoms.numbers, self.model.elements, str(atoms.symbols))
        self._last_inputs = self._read(atoms)
        names = [name for name in self._wanted(atoms, properties) if name not in self.results]
        self._require_volume(atoms, names)
        graph = self._neighbours.graph(atoms, self._tensors())
        for name, value in self.model(graph, names).items():
            self.results[name] = self._result(name, value)
        self.results.update({alias: self.results[name] for alias, name in self._known.items() if name in self.results})

    def _wanted(self, atoms: ase.Atoms, properties: Sequence[str]) -> list[str]:
        """The names asked for and those that come with them."""
        names = dict.fromkeys(self._known.get(name, name) for name in properties)
        if any(name in (*ALWAYS, "stress") for name in names):
            names.update(dict.fromkeys(ALWAYS if not atoms.pbc.all() else (*ALWAYS, "stress")))
        return [name for name in names if name in self.model.properties]

    def _require_volume(self, atoms: ase.Atoms, names: Sequence[str]) -> None:
        if atoms.cell.rank == 3:
            return
        for name in names:
            if self.model.properties[name].per_volume:
                raise ModelError(f"{name} is per volume, {atoms.get_chemical_formula()} has no cell: set atoms.cell")

    def _result(self, name: str, value: Tensor) -> float | npt.NDArray[np.float64]:
        row = self.model.properties[name]
        array = value.to("cpu", torch.float64).numpy()
        if name in VOIGT:
            array = np.asarray(full_3x3_to_voigt_6_stress(array))
        if row.scope == "atom":
            return array
        if row.scope == "pair":
            return matrix(array) if row.rank == 2 else array
        return float(array[0]) if row.rank == 0 else array[0]

    def _read(self, atoms: ase.Atoms) -> Mapping[str, npt.NDArray[Any]]:
        return read_inputs(atoms, self.model.inputs, self.inputs)

    def _tensors(self) -> dict[str, Tensor]:
        device = self._neighbours.device
        return {name: torch.as_tensor(value, device=device) for name, value in self._last_inputs.items()}


def read_inputs(
    atoms: ase.Atoms,
    rows: Mapping[str, Input],
    given: Mapping[str, npt.ArrayLike],
    labels: Mapping[str, Label] | None = None,
) -> Mapping[str, npt.NDArray[Any]]:
    """Values of inputs with their leading axis, (1, 3, ..) or (N, 3, ..).

    Args:
        atoms: the structure.
        rows: the inputs.
        given: values that go before those of the structure.
        labels: names and units under which the structure may have them; else they are under the name of the row, or,
            as initial charges and magnetic moments are, under ASE's.

    Raises:
        DataError: one is missing and has no default, or its shape is wrong.
        ModelError: one is given that the model does not know, or charges of fragments are prescribed that it has not.
    """
    if unknown := [name for name in given if name not in rows]:
        known = f"it knows {', '.join(rows)}" if rows else "it has no inputs"
        raise ModelError(f"inputs: there is the input {unknown[0]!r}, which the model does not know: {known}")
    if FRAGMENT_CHARGE not in rows and (FRAGMENT_CHARGE in atoms.arrays or FRAGMENT_CHARGE in atoms.info):
        raise ModelError(
            f"{atoms.symbols} prescribes charges of fragments ({FRAGMENT_CHARGE}), the model has none that add up: it "
            "takes charges by the route balanced, equalised or equilibrated (properties.charges.route)"
        )
    if not rows:
        return {}
    if given:
        atoms = atoms.copy()
        atoms.info.update(given)
    found = [find_label(atoms, row, (labels or {}).get(row.name)) for row in rows.values()]
    return frame_from(atoms, (), found, str(atoms.symbols)).inputs


def find_label(atoms: ase.Atoms, row: Input, label: Label | None) -> Label:
    """Where a structure keeps an input: as the label says, else under ASE's name, else under the name of the row."""
    if label is not None and carries(atoms, label):
        return label
    keys = {*atoms.info, *atoms.arrays}
    return Label(row, key=row.ase if row.ase in keys and row.name not in keys else row.name)


def require_known(numbers: npt.NDArray[Any], elements: Sequence[int], where: str) -> None:
    """Check that a model knows all elements of a structure.

    Raises:
        ModelError: it does not.
    """
    place = np.flatnonzero(~np.isin(numbers, elements))
    if len(place):
        unknown = ", ".join(chemical_symbols[number] for number in sorted(set(numbers[place].tolist())))
        known = ", ".join(chemical_symbols[number] for number in elements)
        others = " and others" if len(place) > 1 else ""
        raise ModelError(
            f"{where}: the model does not know {unknown} (atom {place[0]}{others}), it knows {known}: "
            "use a model trained on these elements"
        )


def _dtype(name: str | None) -> torch.dtype | None:
    if name is None:
        return None
    known = {"float32": torch.float32, "float64": torch.float64}
    if name not in known:
        raise ValueError(f"dtype must be 'float32' or 'float64', found {name!r}")
    return known[name]
