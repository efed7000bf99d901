"""Two ions beyond the cutoff, with and without latent charges: errors, charges, and the picture of their energy.

    python -m benchmarks.dimer train_0.extxyz FOLDER

The file holds ethylguanidinium and acetate at ten distances (dimer sets of long-range benchmarks). Trained on the
nearest eight, tested on the farthest two, which also choose the epoch. Prints a table and draws
docs/images/longrange_dimer.svg. Runs that are in the folder already are not done again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import ase
import ase.io
import numpy as np
from rich.console import Console

from carten.drawing import LIGHT, Drawing
from carten.interfaces.ase import Calculator
from carten.math.arrays import Floats
from carten.physics.constants import COULOMB
from carten.train.config import Config
from carten.train.files import BEST
from carten.train.run import train

IMAGE = Path(__file__).resolve().parents[1] / "docs" / "images" / "longrange_dimer.svg"
DISTANCES = np.array([12.0, 14.0, 16.0, 20.0, 25.0, 30.0, 40.0, 60.0])
FIRST = 16
"""Atoms of the first ion, which come first."""
RUNS = {"without": (240, []), "with `les`": (240, [{"kind": "les"}]), "with `les`, longer": (800, [{"kind": "les"}])}
"""Epochs of one step each, and energy terms."""


def trained(folder: Path, number: int, epochs: int, terms: list[dict[str, str]]) -> Path:
    """The model of a run."""
    document = {
        "data": {"train": "near.extxyz", "validation": "far.extxyz", "batch": {"structures": 8}},
        "reference_energies": "fitted",
        "properties": {"energy": {"weight": 1000.0}, "forces": {"weight": 10.0}},
        "model": {
            "cutoff": 5.0,
            "n_layers": 1,
            "n_channels": 8,
            "correlation_order": 2,
            "l_max_edges": 2,
            "l_max_features": 1,
        },
        "terms": terms,
        "training": {"epochs": epochs, "validate_every": 20, "ema": 0.98},
        "output": f"run_{number}",
    }
    path = folder / f"run_{number}" / BEST
    if not path.exists():
        train(Config.parse(document, folder), console=Console(quiet=True))
    return path


def predicted(calculator: Calculator, atoms: ase.Atoms) -> tuple[float, Floats]:
    """Energy in eV and forces in eV/Å."""
    copy = atoms.copy()
    copy.calc = calculator
    return copy.get_potential_energy(), copy.get_forces()


def errors(calculator: Calculator, frames: list[ase.Atoms]) -> tuple[float, float]:
    """RMSE of energies in meV and of forces in meV/Å."""
    results = [predicted(calculator, atoms) for atoms in frames]
    energies = [energy - atoms.get_potential_energy() for (energy, _), atoms in zip(results, frames, strict=True)]
    forces = [values - atoms.get_forces() for (_, values), atoms in zip(results, frames, strict=True)]
    return 1e3 * float(np.sqrt(np.mean(np.square(energies)))), 1e3 * float(np.sqrt(np.mean(np.square(forces))))


def pulled_apart(atoms: ase.Atoms) -> list[ase.Atoms]:
    """The two molecules, rigid, with their centres of mass at each of the distances."""
    first, second = atoms[:FIRST], atoms[FIRST:]
    axis = second.get_center_of_mass() - first.get_center_of_mass()
    length = float(np.linalg.norm(axis))
    frames = []
    for distance in DISTANCES:
        frames.append(ase.Atoms(atoms.numbers, atoms.positions))
        frames[-1].positions[FIRST:] += axis * (distance / length - 1.0)
    return frames


def main() -> None:
    """Train what is missing, print the table, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, default=IMAGE)
    arguments = parser.parse_args()
    frames = sorted(ase.io.read(arguments.data, ":"), key=_distance)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    near, far = frames[:8], frames[8:]
    ase.io.write(arguments.folder / "near.extxyz", near)
    ase.io.write(arguments.folder / "far.extxyz", far)
    curves = {}
    print("| RMSE | steps | energy, far (meV) | forces, far (meV/Å) | energy, near | forces, near | slope (eV Å) |")
    for number, (name, (epochs, terms)) in enumerate(RUNS.items()):
        calculator = Calculator(trained(arguments.folder, number, epochs, terms), dtype="float64")
        energies = np.array([predicted(calculator, atoms)[0] for atoms in pulled_apart(frames[-1])])
        curves[name] = energies - energies[-1]
        slope = np.polyfit(1.0 / DISTANCES, energies, 1)[0]
        values = [f"{value:.0f}" for value in (*errors(calculator, far), *errors(calculator, near))]
        print(f"| {name} | {epochs} | {' | '.join(values)} | {slope:.1f} |", flush=True)
    charges = calculator.get_property("latent_charges", frames[-1])
    print(f"charges of the two molecules: {charges[:FIRST].sum():.2f}, {charges[FIRST:].sum():.2f} e")
    draw(curves, arguments.output)


def _distance(atoms: ase.Atoms) -> float:
    return float(np.linalg.norm(atoms[FIRST:].get_center_of_mass() - atoms[:FIRST].get_center_of_mass()))


def draw(curves: dict[str, Floats], path: Path) -> None:
    """Energies over the distance."""
    with Drawing(palette=LIGHT) as drawing:
        axes = drawing.axes
        for number, (name, energies) in enumerate(curves.items()):
            axes.plot(DISTANCES, energies, "o-", color=f"C{number}", markersize=4.0, label=name.replace("`", ""))
        exact = np.linspace(DISTANCES[0], DISTANCES[-1], 200)
        axes.plot(exact, COULOMB * (1.0 / DISTANCES[-1] - 1.0 / exact), ":", color="C5", label="two charges of 1 e")
        axes.set(xlabel="distance of the centres of mass (Å)", ylabel="energy relative to 60 Å (eV)")
        axes.legend()
        drawing.save(path)


if __name__ == "__main__":
    main()
