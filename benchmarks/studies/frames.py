"""From published files to the frames of a study; each function returns frames by the name of their output file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import ase
import numpy as np

from benchmarks.studies.study import Study
from carten.data.dataset import split
from carten.data.read import read_structures

Frames = list[ase.Atoms]
SEED = 0


def labelled(study: Study, data: Path) -> dict[str, Frames]:
    """Train, validation and test parts of the files as they are."""
    frames = _read([data / file for file in study.files])
    if isinstance(study.test, int):
        train, validation, test = split(len(frames), [study.validation, study.test], SEED)
        held_out = [frames[k] for k in test]
    else:
        train, validation = split(len(frames), [study.validation], SEED)
        held_out = _read([data / file for file in study.test])
    chosen = {"train": train, "validation": validation}
    return {name: [frames[k] for k in part] for name, part in chosen.items()} | {"test": held_out}


def with_supercell(study: Study, data: Path) -> dict[str, Frames]:
    """Frames with the shape of their cell, ``sum_k a_k a_k^T / V^(2/3)``: k points sample its axes unevenly."""
    parts = labelled(study, data)
    for atoms in (atoms for part in parts.values() for atoms in part):
        atoms.info["supercell"] = (atoms.cell.T @ atoms.cell / atoms.get_volume() ** (2 / 3)).ravel()
    return parts


def two_levels(study: Study, data: Path) -> dict[str, Frames]:
    """50 frames with both labels, the validation part with expensive labels, and all others with cheap labels only."""
    parts = labelled(study, data)
    expensive = [_at_level(atoms, "") for atoms in parts["train"][::19][:50]]
    cheap = [_at_level(atoms, "old_") for atoms in parts["train"] + parts["validation"]]
    return {
        "train": expensive,
        "cheap": cheap,
        "validation": [_at_level(atoms, "") for atoms in parts["validation"]],
        "test": [_at_level(atoms, "") for atoms in parts["test"]],
    }


def beside_cheap(study: Study, data: Path) -> dict[str, Frames]:
    """Parts of the first file (coupled cluster), combined with a second one (GFN2-xTB) of the same total weight."""
    expensive, cheap = study.files
    if not (data / cheap).exists():
        raise FileNotFoundError(
            f"{data / cheap}: not published but made, by python -m benchmarks.studies.cheap_molecules --data {data} "
            "(the first lines of benchmarks/studies/cheap_molecules.py say what it needs)"
        )
    parts = labelled(study.model_copy(update={"files": (expensive,)}), data)
    for atoms in (atoms for part in parts.values() for atoms in part):
        atoms.info["fidelity"] = "ccsd"
    molecules = _read([data / cheap])
    for atoms in molecules:
        atoms.info["weight"] = len(parts["train"]) / len(molecules)
    return parts | {"cheap": molecules}


def with_hessians(study: Study, data: Path) -> dict[str, Frames]:
    """Frames with the Hessians from an archive next to the file."""
    archive = np.load(data / study.files[0].replace("train.extxyz", "hessians.npz"))
    parts = labelled(study, data)
    for atoms in (atoms for part in parts.values() for atoms in part):
        atoms.info["hessian"] = archive[f"h{atoms.info['hessian_index']}"].ravel()
    return parts


def farthest(study: Study, data: Path) -> dict[str, Frames]:
    """For curves in order of distance, one per file: the last frames are held out, those before select the model."""
    if not isinstance(study.test, int):
        raise ValueError(f"study {study.title!r}: expected a number of frames as test, found {study.test}")
    parts: dict[str, Frames] = {"train": [], "validation": [], "test": []}
    for file in study.files:
        curve = _read([data / file])
        chosen, held_out = len(curve) - study.test - study.validation, len(curve) - study.test
        parts["train"] += curve[:chosen]
        parts["validation"] += curve[chosen:held_out]
        parts["test"] += curve[held_out:]
    return parts


PREPARE: Mapping[str, Callable[[Study, Path], dict[str, Frames]]] = {
    "labelled": labelled,
    "with_supercell": with_supercell,
    "two_levels": two_levels,
    "beside_cheap": beside_cheap,
    "with_hessians": with_hessians,
    "farthest": farthest,
}


def _read(files: list[Path]) -> Frames:
    return [atoms for _, atoms in read_structures(files)]


def _at_level(atoms: ase.Atoms, prefix: str) -> ase.Atoms:
    """A structure with the energy and forces of one level under plain names."""
    found = {**atoms.info, **atoms.arrays, **atoms.calc.results}
    new = ase.Atoms(atoms.numbers, atoms.positions)
    new.info.update(energy=found[f"{prefix}energy"], fidelity="md17" if prefix else "pbe")
    new.arrays["forces"] = np.array(found[f"{prefix}forces"])
    return new
