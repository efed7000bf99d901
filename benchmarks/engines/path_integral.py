"""Lengths of bonds with classical and with quantum nuclei: a molecule in i-PI, all beads in one call of carten.

python -m benchmarks.engines.path_integral ethanol.carten start.xyz --bond O H --output docs/images/path_integral.svg
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import ase.io
import numpy as np
import numpy.typing as npt
from ase import Atoms, units
from matplotlib.figure import Figure

from carten.data.read import read_structures
from carten.interfaces import ipi_driver

INPUT = """
<simulation verbosity="low">
  <output prefix="run">
    <properties stride="10" filename="out"> [ step, kinetic_cv{{electronvolt}} ] </properties>
    <trajectory stride="10" filename="positions" format="xyz"> positions{{angstrom}} </trajectory>
  </output>
  <total_steps>{steps}</total_steps>
  <prng><seed>{seed}</seed></prng>
  <ffdirect name="carten"><pes>custom</pes><pes_path>{driver}</pes_path><batch_size>{beads}</batch_size>
    <parameters>{{template: start.xyz, model: {model}}}</parameters></ffdirect>
  <system>
    <initialize nbeads="{beads}"><file mode="ase" units="angstrom">start.xyz</file>
      <velocities mode="thermal" units="kelvin">{temperature}</velocities></initialize>
    <forces><force forcefield="carten"/></forces>
    <motion mode="dynamics"><fixcom>True</fixcom><dynamics mode="nvt">
      <timestep units="femtosecond">{timestep}</timestep>
      <thermostat mode="pile_l"><tau units="femtosecond">50</tau></thermostat></dynamics></motion>
    <ensemble><temperature units="kelvin">{temperature}</temperature></ensemble>
  </system>
</simulation>
"""
DISCARDED = 0.1
"""The part of a run that is left out at its beginning."""
BOND = 1.3
"""Times the sum of covalent radii, Å: below it two atoms are bonded."""

Floats = npt.NDArray[np.float64]


def bonds(atoms: Atoms, symbols: tuple[str, str]) -> list[tuple[int, int]]:
    """Pairs of bonded atoms of two elements."""
    from ase.neighborlist import natural_cutoffs, neighbor_list

    pairs = zip(*neighbor_list("ij", atoms, [BOND * radius for radius in natural_cutoffs(atoms)]), strict=True)
    return [(int(i), int(j)) for i, j in pairs if (atoms.symbols[i], atoms.symbols[j]) == symbols]


def run(start: Path, model: Path, beads: int, options: argparse.Namespace) -> tuple[list[Atoms], float]:
    """Structures of all beads along a run, and the mean kinetic energy in eV (centroid virial estimator)."""
    with TemporaryDirectory(prefix="carten-path-integral-") as name:
        folder = Path(name)
        atoms = read_structures(start)[-1][1]
        if atoms.cell.rank < 3:  # i-PI has a cell always; it means nothing where the structure is not periodic
            atoms.set_cell([100.0, 100.0, 100.0])
        ase.io.write(folder / "start.xyz", atoms, format="extxyz")
        text = INPUT.format(
            steps=options.steps, seed=options.seed, driver=ipi_driver.__file__, model=model.resolve(), beads=beads,
            temperature=options.temperature, timestep=options.timestep,
        )  # fmt: skip
        (folder / "input.xml").write_text(text, encoding="utf-8")
        command = [str(Path(sys.executable).with_name("i-pi")), "input.xml"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"i-PI failed:\n{(done.stdout + done.stderr)[-3000:]}")
        frames: list[Atoms] = []
        for file in sorted(folder.glob("run.positions_*.xyz")):
            along = ase.io.read(file, ":", format="xyz")
            frames += along[int(DISCARDED * len(along)) :]
        table = np.loadtxt(folder / "run.out")
    return frames, float(table[int(DISCARDED * len(table)) :, 1].mean())


def lengths(frames: list[Atoms], pairs: list[tuple[int, int]]) -> Floats:
    """Lengths of some bonds in all structures, Å."""
    return np.array([frame.get_distance(i, j) for frame in frames for i, j in pairs])


def draw(by_beads: dict[int, Floats], title: str, output: Path) -> None:
    """Distributions of lengths, a line for each number of beads."""
    figure = Figure(figsize=(5.0, 3.2), layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(min(map(np.min, by_beads.values())), max(map(np.max, by_beads.values())), 60)
    for beads, values in by_beads.items():
        density, _ = np.histogram(values, edges, density=True)
        label = "classical nuclei" if beads == 1 else f"quantum nuclei, {beads} beads"
        axes.plot((edges[1:] + edges[:-1]) / 2, density, label=label)
    axes.set(xlabel=f"length of {title} (Å)", ylabel="probability density (1/Å)", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(output, metadata={"Date": None})


def main() -> None:
    """Run, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a .carten file")
    parser.add_argument("start", type=Path, help="a molecule")
    parser.add_argument("--bond", nargs=2, default=("O", "H"), metavar=("A", "B"), help="elements of the bonds")
    parser.add_argument("--beads", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--timestep", type=float, default=0.25, help="fs")
    parser.add_argument("--temperature", type=float, default=300.0, help="K")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("bonds.svg"))
    options = parser.parse_args()
    atoms = read_structures(options.start)[-1][1]
    pairs = bonds(atoms, tuple(options.bond))
    classical = 1.5 * len(atoms) * units.kB * options.temperature
    print(f"kinetic energy of classical nuclei, 3/2 kT each: {classical:.3f} eV")
    by_beads = {}
    for beads in options.beads:
        frames, kinetic = run(options.start, options.model, beads, options)
        by_beads[beads] = lengths(frames, pairs)
        mean, spread = by_beads[beads].mean(), by_beads[beads].std()
        print(
            f"{beads:3d} beads: kinetic energy {kinetic:.3f} eV; {'–'.join(options.bond)} {mean:.4f} ± {spread:.4f} Å",
            flush=True,
        )
    draw(by_beads, "–".join(options.bond), options.output)


if __name__ == "__main__":
    main()
