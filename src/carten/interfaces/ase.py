"""A model as a calculator of ASE."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
import numpy.typing as npt
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from carten.data.structures import is_crystal, read_inputs, require_known
from carten.deploy import Deployed
from carten.deploy.results import Row
from carten.interfaces.ensemble_paths import open_paths
from carten.math.arrays import Array, Floats
from carten.physics.names import FRAGMENT_CHARGE
from carten.text import html_table

if TYPE_CHECKING:
    import torch

    from carten.properties.potential import Potential
    from carten.uncertainty import Ensemble

ALWAYS = ("energies", "energy", "forces")
"""Evaluated together, whichever of them is asked for: they cost one pass."""
_VOIGT = ("stress",)


class Calculator(BaseCalculator):
    """Energies, forces, stress and every other property of a model, for ASE.

    Results are in ASE's units and conventions: eV, Å, e; ``stress`` in eV/Å³ with ASE's sign, six components in Voigt
    order; other tensors in full, Hessians as 3N x 3N matrices. ``free_energy`` is ``energy``. Every property of the
    model has its name in ``implemented_properties``, and ASE's where that differs, and is there through
    ``calculator.get_property(name, atoms)``.

    The calculator has a snapshot of the model: later changes of a model that is passed do not reach it, nor does it
    change the model. Energies, forces, stress, virials and what is read from features come from one call of a compiled
    library (see :mod:`carten.deploy`); Hessians, responses and models with long-ranged terms are evaluated with torch.
    ``path`` says which of the two ran last. Threads may share a calculator; one of them evaluates at a time.

    Where the model knows its errors there is ``energy_uncertainty``, ``forces_uncertainty`` (one number for each atom)
    and so on, in the unit of the property: calibrated standard deviations of one component, see
    :class:`carten.uncertainty.Ensemble`. With a committee they are among the results of every calculation; where
    members share a network they are evaluated when they are asked for by ``get_property``.

    Nothing is evaluated twice for the same atoms and inputs, and the neighbour list is kept while atoms move less than
    half the skin. Inputs of the model are read from ``inputs``, else from ``atoms.info`` (structures) and
    ``atoms.arrays`` (atoms) under the name of the row or the name ASE has for it, else they have the row's default.

    Args:
        model: a ``.carten`` file, a library made by ``carten export``, a model, or an ensemble.
        device: e.g. ``"cpu"``, ``"cuda"``; the CPU by default.
        dtype: ``"float32"`` or ``"float64"``; as the model is by default.
        backend: ``"auto"``, or one of :data:`carten.ops.library.BACKENDS`, which are evaluated with torch.
        skin: in Å, see :class:`carten.interfaces.skin.SkinList`.
        inputs: conditions by name that hold for all structures; they may be changed between calculations.
        threads: of the library, which sleep in between; OMP_NUM_THREADS, or all cores that there are, by default.

    Raises:
        ModelFileError: the file is no model.
        ModelError: the structure has an element the model does not know.
        ConfigError: the device can't be used.
        DataError: an input is missing, or two atoms coincide.

    Example:
        >>> atoms.calc = carten.Calculator("model.carten")
        >>> atoms.get_potential_energy()
    """

    name = "carten"

    def __init__(
        self,
        model: str | Path | Potential | Deployed | Ensemble,
        device: torch.device | str | None = None,
        dtype: str | None = None,
        backend: str = "auto",
        skin: float = 0.5,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        threads: int | None = None,
    ) -> None:
        BaseCalculator.__init__(self)
        self._paths = open_paths(model, device, dtype, backend, (skin, threads))
        self.inputs = dict(inputs or {})
        rows = self._paths.rows
        self._known = {name: name for name in rows} | {row.ase: name for name, row in rows.items() if row.ase}
        if "energy" in rows:
            self._known["free_energy"] = "energy"
        self.implemented_properties = [*self._known]
        self._last: tuple[ase.Atoms, Mapping[str, Array]] | None = None
        self._numbers: Array = np.zeros(0, dtype=np.int64)
        self._carried: tuple[Mapping[tuple[str, str], Any], Mapping[str, Array]] | None = None
        self._lock = threading.RLock()

    @property
    def path(self) -> str:
        """``"library"`` or ``"torch"``: what evaluated last, or will evaluate energies first."""
        return self._paths.path

    @property
    def library(self) -> Deployed | None:
        """The compiled model, if energies and forces come from one."""
        return self._paths.library

    @property
    def model(self) -> Potential:
        """The exact model, for evaluation with torch; a copy that is the calculator's own."""
        return self._paths.model

    @property
    def models(self) -> tuple[Potential, ...]:
        """The exact models whose mean is predicted: those of a committee, else the one."""
        return self._paths.models

    @property
    def cutoff(self) -> float:
        """Distance up to which atoms interact directly, Å."""
        return self._paths.cutoff

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers the model knows."""
        return self._paths.elements

    def _repr_html_(self) -> str:
        with self._lock:
            return html_table([("evaluated by", self.path), *self._paths.facts()])

    def get_property(self, name: str, atoms: ase.Atoms | None = None, allow_calculation: bool = True) -> Any:
        """A property of a structure, or of the last one."""
        if name not in self.implemented_properties:
            raise PropertyNotImplementedError(f"the model does not predict {name}")
        with self._lock:
            atoms = self.atoms if atoms is None else atoms
            if atoms is None:
                raise ValueError(f"{name} of what? give a structure: there was none before")
            input_values = self._read(atoms)
            if not self._is_last(atoms, input_values):
                self.reset()
            if name not in self.results:
                if not allow_calculation:
                    return None
                self._calculate(atoms, input_values, [name])
            value = self.results[name]
            return value.copy() if isinstance(value, np.ndarray) else value

    def reset(self) -> None:
        """Forget the last structure and its results."""
        with self._lock:
            self.atoms, self.results, self._last = None, {}, None

    def check_state(self, atoms: ase.Atoms, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation."""
        with self._lock:
            input_values = self._read(atoms)
            if self._is_last(atoms, input_values):
                return []
            changes: list[str] = BaseCalculator.check_state(self, atoms, tol=tol)
            last = self._last[1] if self._last is not None else {}
            if any(name not in last or not np.array_equal(x, last[name]) for name, x in input_values.items()):
                changes.append("inputs")
            return changes

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Add the properties, and what comes with them for free, to the results.

        Args:
            atoms: the structure; the last one by default.
            properties: names.
            system_changes: as ASE passes it; not relied on.
        """
        with self._lock:
            atoms = self.atoms if atoms is None else atoms
            if atoms is None:
                raise ValueError("calculate() needs a structure: there was none before")
            self._calculate(atoms, self._read(atoms), properties)

    def _calculate(self, atoms: ase.Atoms, input_values: Mapping[str, Array], properties: Sequence[str]) -> None:
        if not self._is_last(atoms, input_values):
            self.reset()
            if not np.array_equal(atoms.numbers, self._numbers):
                require_known(atoms.numbers, self._paths.elements, atoms.get_chemical_formula())
                self._numbers = atoms.numbers.copy()
        names = [name for name in self._wanted(atoms, properties) if name not in self.results]
        self._require_volume(atoms, names)
        values = self._paths.evaluate(atoms, names, input_values)
        results = {**self.results, **{name: self._result(self._paths.rows[name], x) for name, x in values.items()}}
        results.update({alias: results[name] for alias, name in self._known.items() if name in results})
        copy = atoms.copy()
        self.results, self.atoms, self._last = results, copy, (copy, input_values)

    def _is_last(self, atoms: ase.Atoms, input_values: Mapping[str, Array]) -> bool:
        """Whether the results are those of a structure."""
        if self._last is None:
            return False
        last, last_told = self._last
        arrays = [(getattr(atoms, name), getattr(last, name)) for name in ("numbers", "positions", "pbc")]
        arrays.append((atoms.cell.array, last.cell.array))
        if input_values.keys() != last_told.keys():
            return False
        arrays += [(value, last_told[name]) for name, value in input_values.items()]
        return all(np.array_equal(one, other) for one, other in arrays)

    def _wanted(self, atoms: ase.Atoms, properties: Sequence[str]) -> list[str]:
        """The names asked for and those that come with them."""
        names = dict.fromkeys(self._known.get(name, name) for name in properties)
        if unknown := [name for name in names if name not in self._paths.rows]:
            raise PropertyNotImplementedError(f"the model does not predict {unknown[0]}")
        if any(name in (*ALWAYS, "stress") for name in names):
            solid = is_crystal(atoms)
            names.update(dict.fromkeys((*ALWAYS, "stress") if solid else ALWAYS))
        names.update(dict.fromkeys(self._paths.along_with([*names])))
        return [name for name in names if name in self._paths.rows]

    def _require_volume(self, atoms: ase.Atoms, names: Sequence[str]) -> None:
        per_volume = [name for name in names if self._paths.rows[name].per_volume]
        if per_volume and not (atoms.cell.rank == 3 and atoms.pbc.any()):
            problem = "is not periodic: set atoms.pbc" if atoms.cell.rank == 3 else "has no cell: set atoms.cell"
            formula = atoms.get_chemical_formula()
            raise PropertyNotImplementedError(f"{per_volume[0]} is per volume, {formula} {problem}")

    def _result(self, row: Row, values: Floats) -> float | Floats:
        """As ASE has it, from (1, 3, ..), (N, 3, ..) or (N * N, 3, ..)."""
        if row.name in _VOIGT:
            values = np.asarray(full_3x3_to_voigt_6_stress(values))
        if row.scope == "atom":
            return values
        if row.scope == "pair":
            return _matrix(values) if row.rank == 2 else values
        return float(values[0]) if row.rank == 0 else values[0]

    def _read(self, atoms: ase.Atoms) -> Mapping[str, Array]:
        """Values of the inputs; read again only when their sources have changed."""
        rows = self._paths.inputs
        if not rows:
            return read_inputs(atoms, rows, self.inputs)
        keys = {FRAGMENT_CHARGE, *(key for row in rows.values() for key in (row.name, row.ase))}
        places = (("info", atoms.info), ("arrays", atoms.arrays))
        carried: dict[tuple[str, str], Any] = {("inputs", key): value for key, value in self.inputs.items()}
        carried |= {(name, key): place[key] for name, place in places for key in keys & place.keys()}
        carried["atoms", ""] = len(atoms)
        if self._carried is None or not _same(carried, self._carried[0]):
            values = read_inputs(atoms, rows, self.inputs)
            self._carried = ({key: np.array(value) for key, value in carried.items()}, values)
        return self._carried[1]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()


def _same(one: Mapping[tuple[str, str], Any], other: Mapping[tuple[str, str], Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(value, other[key]) for key, value in one.items())


def _matrix(blocks: Floats) -> Floats:
    """(N * N, 3, 3) blocks as one 3N x 3N matrix."""
    from carten.data.layouts import matrix

    return matrix(blocks)
