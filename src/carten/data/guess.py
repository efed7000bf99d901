"""Which entries of a file are labels and inputs: by their names, reference values before predictions, and layouts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from carten.data.categories import categories
from carten.data.labels import Label, carries, frame_from
from carten.data.layouts import shaped
from carten.data.lookup import find_entry, label_names
from carten.errors import DataError
from carten.model.conditions import Category, Input
from carten.properties.routes import Derivative, Property
from carten.properties.spec import input_table, property_table

if TYPE_CHECKING:
    from ase import Atoms

    Structures = Sequence[tuple[str, Atoms]]

_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "energy": ("total_energy", "potential_energy"),
    "forces": ("force",),
    "dipole": ("dipole_moment",),
    "born_charges": ("born_effective_charges", "bec"),
    "dielectric": ("dielectric_tensor",),
    "nmr_shielding": ("nmr_shieldings", "shielding", "shieldings", "magnetic_shielding", "shielding_tensor"),
    "polarizability": ("polarizability_tensor",),
}
_REFERENCE = frozenset({"ref", "refs", "reference", "target", "true", "truth", "label", "labels", "train"})
_METHODS = frozenset({
    "ab", "abinitio", "aims", "b3lyp", "blyp", "castep", "cc", "ccsd", "ccsdt", "cp2k", "dft", "dftb", "gaussian",
    "gfn", "gfn2", "hf", "hse", "initio", "lda", "mp2", "orca", "pbe", "pbe0", "psi4", "pyscf", "qe", "qm",
    "r2scan", "rpa", "scan", "scf", "siesta", "t", "tb", "vasp", "wb97", "wb97m", "wb97x", "xtb",
})  # fmt: skip
_PREDICTION = frozenset({
    "ace", "allegro", "ani", "carten", "chgnet", "dp", "esen", "gap", "grace", "ictp", "m3gnet", "mace",
    "mattersim", "ml", "mlff", "mlip", "mlips", "mlp", "model", "mtp", "nep", "nequip", "nff", "nn", "nnp", "orb",
    "pred", "predicted", "prediction", "predictions", "schnet", "sevennet", "snap", "tace", "tensornet", "uma",
})  # fmt: skip
_OTHER = frozenset({
    "abs", "adsorption", "alternative", "atom", "atomisation", "atomization", "band", "binding", "cohesive",
    "correction", "delta", "diff", "difference", "dispersion", "electrostatic", "err", "error", "excitation",
    "fermi", "formation", "free", "hull", "interaction", "interpolated", "key", "kinetic", "max", "mean", "min",
    "name", "norm", "nuclear", "offset", "per", "point", "relative", "repulsion", "rms", "shift", "shifted", "std",
    "strain", "surface", "uncertainty", "unit", "units", "var", "variance", "vdw", "weight", "weights", "zero",
    "zpe",
})  # fmt: skip
"""Words that make another quantity of a name: a kinetic energy is no energy."""
_NONE = 9  # rank of what is no label
_TENSORS: Mapping[str, str] = {
    "efg": "ij=ji; ii=0",
    "electric_field_gradient": "ij=ji; ii=0",
    "hyperfine": "ij=ji",
    "g_tensor": "ij",
    "polarizabilities": "ij=ji",
    "quadrupoles": "ij=ji; ii=0",
}


@dataclass(frozen=True)
class TensorEntry:
    """An entry with the layout of a tensor of rank 2 that no built-in property describes.

    Args:
        key: its name in the file.
        scope: ``atom`` or ``structure``.
        indices: of a tensor with this name, ``"ij"`` where nothing is known of it.
    """

    key: str
    scope: str
    indices: str


@dataclass(frozen=True)
class Guess:
    """What a file seems to hold.

    Args:
        labels: of properties, one each; none is required.
        inputs: that models could use.
        others: by property, names of further entries that may be its label.
        zero: names of entries that would be labels if they were not zero in all structures.
        tensors: entries that may be declared as properties.
    """

    labels: tuple[Label, ...]
    inputs: tuple[Label, ...]
    others: Mapping[str, tuple[str, ...]]
    zero: tuple[str, ...]
    tensors: tuple[TensorEntry, ...]


def guess_labels(structures: Structures) -> Guess:
    """The labels and inputs that structures carry, by names and layouts.

    Of several candidates for a property the one marked as reference is taken (``REF_energy``), then that with the plain
    name, then those marked by a method (``dft_energy``) or by nothing known, at last those that seem to be predictions
    (``mace_energy``). Forces are taken with the mark of the energy where there are such.
    """
    carriers: dict[str, Atoms] = {}
    for _, atoms in structures:
        for name in label_names(atoms):
            carriers.setdefault(name, atoms)
    candidates: dict[str, list[tuple[int, tuple[str, ...], str]]] = {}
    for key, atoms in carriers.items():
        for name, rank, mark in _candidates(key, atoms):
            candidates.setdefault(name, []).append((rank, mark, key))
    zero = [key for group in candidates.values() for *_, key in group if _is_zero(structures, key)]
    labels: list[Label] = []
    others: dict[str, tuple[str, ...]] = {}
    energy_mark: tuple[str, ...] | None = None
    for row in property_table().values():
        group = [item for item in candidates.get(row.name, ()) if item[2] not in zero]
        if not group:
            continue
        group.sort(key=lambda item: (item[0], item[1] != energy_mark))
        _, chosen, key = group[0]
        energy_mark = chosen if row.name == "energy" else energy_mark
        labels.append(Label(row, key if key != row.name else "", required=False))
        others[row.name] = tuple(item[2] for item in group[1:])
    inputs = known_inputs(structures)
    labels = _without_inputs(labels, inputs)
    used = {key for label in (*labels, *inputs) for key in label.keys}.union(*others.values())
    tensors = [_tensor(key, atoms) for key, atoms in carriers.items() if key not in used]
    offered = tuple(tensor for tensor in tensors if tensor is not None)
    return Guess(tuple(labels), tuple(inputs), others, tuple(dict.fromkeys(zero)), offered)


def _without_inputs(labels: Sequence[Label], inputs: Sequence[Label]) -> list[Label]:
    """Labels without those that are inputs of others: magnetic forces are derivatives in the moments beside them."""
    derivatives = [label.row.routes[0] for label in labels if isinstance(label.row, Property)]
    variables = {name for route in derivatives if isinstance(route, Derivative) for name in route.wrt}
    taken = {key for label in inputs if label.name in variables for key in label.keys}
    return [label for label in labels if not taken & set(label.keys)]


def _words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])\d*|[A-Z]?[a-z]+\d*|\d+", name))


def _candidates(key: str, atoms: Atoms) -> list[tuple[str, int, tuple[str, ...]]]:
    """Properties that an entry may be a label of, each with its rank (best is lowest) and the mark in its name."""
    if key in {name for row in input_table().values() for name in (row.name, row.ase)} - {"magmoms"}:
        return []
    table = property_table()
    exact = [row.name for row in table.values() if key == row.name or (key == row.ase and _has_layout(atoms, key, row))]
    if exact:
        return [(name, 1, ()) for name in exact]
    words = _words(key)
    names = [(row, _words(name)) for row in table.values() for name in (row.name, *_SYNONYMS.get(row.name, ()))]
    marks = [(row, name, _mark(words, name)) for row, name in names]
    matches = [
        (len(name), row.name, _rank(mark), mark)
        for row, name, mark in marks
        if mark is not None and _has_layout(atoms, key, row)
    ]
    longest = max((match[0] for match in matches), default=0)
    best = {name: (rank, mark) for length, name, rank, mark in matches if length == longest and rank < _NONE}
    return [(name, rank, mark) for name, (rank, mark) in best.items()]


def _mark(words: tuple[str, ...], name: tuple[str, ...]) -> tuple[str, ...] | None:
    """What stands before or after a name in some words; ``None`` if they do not begin or end with it."""
    if words[-len(name) :] == name:
        return words[: -len(name)]
    if words[: len(name)] == name:
        return words[len(name) :]
    return None


def _rank(mark: tuple[str, ...]) -> int:
    marks = set(mark)
    if marks & _OTHER:
        return _NONE
    if marks & _PREDICTION:
        return 4
    if marks & _REFERENCE:
        return 0
    if not marks:
        return 1
    return 2 if marks <= _METHODS else 3


def _has_layout(atoms: Atoms, key: str, row: Property) -> bool:
    try:
        shaped(np.zeros(label_names(atoms)[key]), row, len(atoms), key)
    except DataError:
        return False
    return True


def _is_zero(structures: Structures, key: str) -> bool:
    entries = (find_entry(atoms, [key]) for _, atoms in structures)
    return not any(np.any(np.asarray(entry)) for entry in entries if entry is not None)


def _tensor(key: str, atoms: Atoms) -> TensorEntry | None:
    shape = label_names(atoms)[key]
    scope = "atom" if shape[:1] == (len(atoms),) and shape[1:] in ((9,), (3, 3)) else "structure"
    if scope == "structure" and shape not in ((9,), (3, 3)):
        return None
    return TensorEntry(key, scope, _TENSORS.get(key.lower(), "ij"))


def known_inputs(structures: Structures) -> list[Label]:
    """A label for every built-in input that structures carry under its own name or ASE's, in its shape."""
    labels = [with_categories(Label(row, required=False), structures) for row in input_table().values()]
    return [label for label in labels if _fits(label, structures)]


def with_categories(label: Label, structures: Structures) -> Label:
    """The label, a category with the values that occur."""
    row = label.row
    if not (isinstance(row, Input) and isinstance(row.embed, Category)):
        return label
    return replace(label, row=replace(row, embed=replace(row.embed, values=categories(structures, label.file_key))))


def _fits(label: Label, structures: Structures) -> bool:
    carriers = [atoms for _, atoms in structures if carries(atoms, label)]
    try:
        return bool([frame_from(atoms, (), [label]) for atoms in carriers])
    except DataError:
        return False
