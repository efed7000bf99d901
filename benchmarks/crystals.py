"""Silicon, copper and lithium: crystals, vacancies and surfaces of models trained for minutes.

The data are those of Zuo et al., J. Phys. Chem. A 124, 731 (2020): PBE energies, forces, stresses in extended XYZ.
Lattice and elastic constants to compare with are taken from their strained cells, surface energies from their slabs.

python -m benchmarks.crystals DATA [--elements Si Cu Li] [--minutes 8] [--folder runs] [--images docs/images]
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
from carten.workflows.defects import defects
from carten.workflows.elastic import elastic
from carten.workflows.eos import eos
from carten.workflows.moduli import voigt_matrix
from carten.workflows.phonons import phonons
from carten.workflows.qha import qha
from carten.workflows.relax import Goal, relax
from carten.workflows.slabs import Miller
from carten.workflows.surface import J_PER_M2, Facet, surface

MEASURED: dict[str, dict[str, tuple[float, ...]]] = {
    "Si": {"Γ": (15.5,), "X": (4.5, 12.3, 13.9)},
    "Cu": {"X": (5.1, 7.3)},
    "Li": {},
}
"""THz: inelastic neutron scattering, G. Nilsson and G. Nelin, Phys. Rev. B 6, 3777 (1972); E. C. Svensson, B. N.
Brockhouse and J. M. Rowe, Phys. Rev. 155, 619 (1967)."""
VACANCY: dict[str, tuple[float, str]] = {"Cu": (1.07, "PBE"), "Si": (3.67, "DFT")}
"""eV: table 1 of Y. Lysogorskiy et al., npj Comput. Mater. 7, 97 (2021); that of silicon is of other data."""
SURFACES: dict[str, dict[Miller, float]] = {"Cu": {(1, 1, 1): 1.36, (1, 0, 0): 1.51, (1, 1, 0): 1.57}}
"""J/m^2 where the data have no slabs: PBE, the same table."""
PLANES: dict[str, list[Miller]] = {
    "Si": [(1, 1, 1), (1, 1, 0)],
    "Cu": [(1, 1, 1), (1, 0, 0), (1, 1, 0)],
    "Li": [(1, 0, 0), (1, 1, 0), (1, 1, 1)],
}
"""Those that do not reconstruct."""
ATOMS = {"Si": 8, "Cu": 4, "Li": 2}
"""In the cubic cell."""
AREA = 0.015
"""Relative difference of areas up to which a slab of the data has the plane of one of ours."""
SMALL = 0.045
"""Largest strain of cells that slopes are fitted to."""


def read(element: str, data: Path, part: str = "train") -> list[ase.Atoms]:
    """One of the sets; stresses of copper are published with yz and xz exchanged, as its sheared cells show."""
    frames = [atoms for _, atoms in read_structures(data / f"{element}_{part}.extxyz")]
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
    if element == "Li":
        values["C44"] = _shear_modulus(frames, x)
    bulk_modulus = (values["C11"] + 2.0 * values["C12"]) / 3.0
    stress = float(fits["C11"][2] + 2.0 * fits["C12"][2]) / 3.0
    return {"a": lattice * (1.0 - stress / (3.0 * bulk_modulus)), "B": bulk_modulus, **values}


def _shear_modulus(frames: list[ase.Atoms], strains: Floats) -> float:
    """C44 in GPa by energies: published shear stresses of lithium change their sign between strains of 1 and 2 %."""
    points = [
        (2.0 * np.abs(strain[3:]).max(), atoms.get_potential_energy())
        for strain, atoms in zip(strains, frames, strict=True)
        if np.abs(strain[:3]).max() < 1e-3
    ]
    strain, energy = np.array(points).T
    volume = float(min(atoms.get_volume() for atoms in frames))
    return 2.0 * float(np.polyfit(strain**2, energy, 1)[0]) / (volume * GPa)


def published_surface(element: str, every_frame: list[ase.Atoms], facet: Facet) -> float | None:
    """Surface energy in J/m^2 of a slab of the data with the area of a facet, or of :data:`SURFACES`."""
    bulk = min(atoms.get_potential_energy() / len(atoms) for atoms in every_frame if _repeats(atoms, element))
    for atoms in every_frame:
        area = float(np.linalg.norm(np.cross(*atoms.cell.array[:2])))
        if atoms.info["group"] == "Surface" and abs(area / facet.area - 1.0) < AREA:
            return J_PER_M2 * float(atoms.get_potential_energy() - len(atoms) * bulk) / (2.0 * area)
    return SURFACES.get(element, {}).get(facet.miller)


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


def report(element: str, model: Path, data: Path, images: Path | None) -> None:
    """Print the rows of a table; draw silicon."""
    calculator, frames = Calculator(model, dtype="float64"), read(element, data)
    reference = published(element, frames)
    frames += read(element, data, "test")
    (relaxed,) = relax(bulk(element, cubic=True), calculator, Goal(1e-4, 1e-3, cell=True))
    tensor, scan = elastic(relaxed.atoms, calculator), eos(relaxed.atoms, calculator)
    c = tensor.stiffness
    values = {"a": relaxed.atoms.cell.lengths()[0], "C11": c[0, 0], "C12": c[0, 1], "B": tensor.moduli.bulk[2]}
    values["C44"] = tensor.clamped[3, 3]
    for name, unit in (("a", "Å"), ("B", "GPa"), ("C11", "GPa"), ("C12", "GPa"), ("C44", "GPa")):
        _row(f"{element} {name}", values[name], unit, reference[name])
    _row(f"{element} C44, relaxed ions", c[3, 3], "GPa")
    _row(f"{element} B0 by eos, B0' = {scan.fits[0].slope:.2f}", scan.fits[0].bulk_modulus / GPa, "GPa")
    vacancy = defects(relaxed.atoms, calculator)
    energy, functional = VACANCY.get(element, (None, ""))
    _row(f"{element} vacancy {functional}", vacancy.defects[0].energy, "eV", energy)
    surfaces = surface(relaxed.atoms, calculator, PLANES[element])
    for facet in (facet for facet in surfaces.facets if not facet.termination):
        _row(f"{element} {facet.name}", facet.energy * J_PER_M2, "J/m²", published_surface(element, frames, facet))
    modes = phonons(relaxed.atoms, calculator)
    for point, measured in MEASURED[element].items():
        frequencies = np.unique(np.round(modes.points[point], 1))
        shown = ", ".join(f"{value:.1f}" for value in frequencies[frequencies > 0.1])
        print(f"| {element} {point} | {shown} THz | {', '.join(map(str, measured))} THz (measured) | |")
    for result in (tensor, vacancy, surfaces, modes):
        for remark in (*result.warnings(), *result.failures()):
            print(f"{element}: {remark}", flush=True)
    if images is not None and element == "Si":
        tensor.plot(images / "elastic_si.svg")
        scan.plot(images / "eos_si.svg")
        modes.plot(images / "phonons_si.svg")
        qha(relaxed.atoms, calculator).plot(images / "qha_si.svg")


def _row(name: str, value: float, unit: str, reference: float | None = None) -> None:
    """A row of the table, with the error in per cent where there is a reference."""
    compared = " | |" if reference is None else f" {reference:.4g} {unit} | {100 * (value / reference - 1):+.1f} % |"
    print(f"| {name} | {value:.4g} {unit} |{compared}", flush=True)


def main() -> None:
    """Train, compute, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--elements", nargs="+", default=list(ATOMS), choices=list(ATOMS))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--folder", type=Path, default=Path("runs"))
    parser.add_argument("--images", type=Path)
    options = parser.parse_args()
    print("| | model | DFT | error |\n|---|---|---|---|")
    for element in options.elements:
        model = model_of(element, read(element, options.data), options.folder, options.minutes)
        report(element, model, options.data, options.images)


if __name__ == "__main__":
    main()
