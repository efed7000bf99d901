"""Silicon and copper: lattice constants, elastic constants and phonons of models trained for minutes.

The data are those of Zuo et al., J. Phys. Chem. A 124, 731 (2020): PBE energies, forces, stresses in extended XYZ. The
values to compare with are taken from their strained cells, as slopes of stresses at no strain.

python -m benchmarks.crystals DATA [--elements Si Cu] [--minutes 8] [--folder runs] [--images docs/images]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase
import numpy as np
from ase.build import bulk
from ase.units import GPa

from carten.data.read import read_structures
from carten.data.write import replacing, write_structure
from carten.interfaces.ase import Calculator
from carten.math.arrays import Floats
from carten.train.config import Config
from carten.train.run import train
from carten.workflows.elastic import elastic
from carten.workflows.eos import eos
from carten.workflows.moduli import voigt_matrix
from carten.workflows.phonons import phonons
from carten.workflows.qha import qha
from carten.workflows.relax import Goal, relax

MEASURED: dict[str, dict[str, tuple[float, ...]]] = {
    "Si": {"Γ": (15.5,), "X": (4.5, 12.3, 13.9)},
    "Cu": {"X": (5.1, 7.3)},
}
"""THz: inelastic neutron scattering, G. Nilsson and G. Nelin, Phys. Rev. B 6, 3777 (1972); E. C. Svensson, B. N.
Brockhouse and J. M. Rowe, Phys. Rev. 155, 619 (1967)."""
ATOMS = {"Si": 8, "Cu": 4}
"""In the cubic cell."""
SMALL = 0.045
"""Largest strain of cells that slopes are fitted to."""


def read(element: str, data: Path) -> list[ase.Atoms]:
    """The training set; stresses of copper are published with yz and xz exchanged, as its sheared cells show."""
    frames = [atoms for _, atoms in read_structures(data / f"{element}_train.extxyz")]
    if element == "Cu":
        for atoms in frames:
            atoms.calc.results["stress"] = atoms.get_stress()[[0, 1, 2, 4, 3, 5]]
    return frames


def model_of(element: str, frames: list[ase.Atoms], folder: Path, minutes: float) -> Path:
    """The model of an element, trained unless it is there."""
    path = folder / element / "best.carten"
    if not path.exists():
        folder.mkdir(exist_ok=True)
        with replacing(folder / f"{element}.extxyz") as file:
            for atoms in frames:
                write_structure(file, atoms)
        document = {
            "data": {"train": str(folder / f"{element}.extxyz"), "validation": 20, "batch": {"structures": 4}},
            "properties": {"energy": {"weight": 1.0}, "forces": {"weight": 10.0}, "stress": {"weight": "auto"}},
            "model": {"cutoff": 5.0, "n_layers": 2, "n_channels": 16, "l_max_edges": 2, "l_max_features": 1},
            "optimizer": {"lr": 0.01},
            "training": {"epochs": 200, "max_minutes": minutes, "validate_every": 2, "ema": 0.99},
            "output": str(path.parent),
        }
        train(Config.parse(document))
    return path


def published(element: str, every_frame: list[ase.Atoms]) -> dict[str, float]:
    """Lattice constant in Å and elastic constants in GPa, clamped ions, from strained cells of the data."""
    frames = [atoms for atoms in every_frame if _repeats(atoms, element) is not None]
    lattice = _common_length(frames, element)
    strains, stresses = [], []
    for atoms in frames:
        deformation = atoms.cell.array / (lattice * (_repeats(atoms, element) or 1))
        strains.append(0.5 * (deformation + deformation.T) - np.eye(3))
        stresses.append(atoms.get_stress(voigt=False) / GPa)
    x, y = voigt_matrix(np.array(strains)), voigt_matrix(np.array(stresses))
    pairs: dict[str, list[tuple[float, float]]] = {"C11": [], "C12": [], "C44": []}
    for strain, stress in zip(x, y, strict=True):
        k = int(np.abs(strain).argmax())
        if np.abs(np.delete(strain, k)).max() < 0.1 * abs(strain[k]) and abs(strain[k]) < SMALL:
            if k < 3:
                pairs["C11"].append((strain[k], stress[k]))
                pairs["C12"].append((strain[k], np.delete(stress[:3], k).mean()))
            else:
                pairs["C44"].append((2.0 * strain[k], stress[k]))
    fits = {name: _parabola(np.array(points)) for name, points in pairs.items()}
    values = {name: float(fit[1]) for name, fit in fits.items()}
    bulk_modulus = (values["C11"] + 2.0 * values["C12"]) / 3.0
    stress = float(fits["C11"][2] + 2.0 * fits["C12"][2]) / 3.0
    return {"a": lattice * (1.0 - stress / (3.0 * bulk_modulus)), "B": bulk_modulus, **values}


def _parabola(points: Floats) -> Floats:
    """Coefficients, highest power first, of a parabola through points (n, 2)."""
    return np.polyfit(points[:, 0], points[:, 1], 2)


def _repeats(atoms: ase.Atoms, element: str) -> int | None:
    """How often a cubic cell is repeated along each axis, if atoms are at the places of a strained lattice."""
    count = round((len(atoms) / ATOMS[element]) ** (1 / 3))
    places = 4 * count * (atoms.get_scaled_positions() - atoms.get_scaled_positions()[0])
    perfect = count**3 * ATOMS[element] == len(atoms) and np.abs(places - np.round(places)).max() < 1e-3
    return count if perfect else None


def _common_length(frames: list[ase.Atoms], element: str) -> float:
    """The length of a cubic cell that is most frequent."""
    lengths = [atoms.cell.lengths() / (_repeats(atoms, element) or 1) for atoms in frames]
    values, counts = np.unique(np.round(np.concatenate(lengths), 3), return_counts=True)
    return float(values[counts.argmax()])


def report(element: str, model: Path, reference: dict[str, float], images: Path | None) -> None:
    """Print the rows of a table; draw silicon."""
    calculator = Calculator(model, dtype="float64")
    (relaxed,) = relax(bulk(element, cubic=True), calculator, Goal(1e-4, 1e-3, cell=True))
    tensor, scan = elastic(relaxed.atoms, calculator), eos(relaxed.atoms, calculator)
    modes = phonons(relaxed.atoms, calculator)
    c = tensor.stiffness
    values = {"a": relaxed.atoms.cell.lengths()[0], "C11": c[0, 0], "C12": c[0, 1], "B": tensor.moduli.bulk[2]}
    values["C44"] = tensor.clamped[3, 3]
    for name, unit in (("a", "Å"), ("B", "GPa"), ("C11", "GPa"), ("C12", "GPa"), ("C44", "GPa")):
        error = 100 * (values[name] / reference[name] - 1)
        print(f"| {element} {name} | {values[name]:.4g} {unit} | {reference[name]:.4g} {unit} | {error:+.1f} % |")
    print(f"| {element} C44, relaxed ions | {c[3, 3]:.4g} GPa | | |")
    print(f"| {element} B0, B0' by eos | {scan.fits[0].bulk_modulus / GPa:.4g} GPa, {scan.fits[0].slope:.2f} | | |")
    for point, measured in MEASURED[element].items():
        frequencies = np.unique(np.round(modes.points[point], 1))
        shown = ", ".join(f"{value:.1f}" for value in frequencies[frequencies > 0.1])
        print(f"| {element} {point} | {shown} THz | {', '.join(map(str, measured))} THz (measured) | |")
    for warning in (*tensor.warnings(), *modes.warnings()):
        print(f"{element}: {warning}")
    if images is not None and element == "Si":
        tensor.plot(images / "elastic_si.svg")
        scan.plot(images / "eos_si.svg")
        modes.plot(images / "phonons_si.svg")
        qha(relaxed.atoms, calculator).plot(images / "qha_si.svg")


def main() -> None:
    """Train, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--elements", nargs="+", default=list(ATOMS), choices=list(ATOMS))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--images", type=Path)
    options = parser.parse_args()
    print("| | model | PBE | error |\n|---|---|---|---|")
    for element in options.elements:
        frames = read(element, options.data)
        model = model_of(element, frames, options.folder, options.minutes)
        report(element, model, published(element, frames), options.images)


if __name__ == "__main__":
    main()
