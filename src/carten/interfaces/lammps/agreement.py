"""Does LAMMPS give what the ASE calculator gives, on any number of processes?"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
import numpy.typing as npt
from ase.calculators.lammps import Prism
from ase.data import atomic_masses, chemical_symbols
from ase.io.lammpsdata import write_lammps_data
from ase.stress import full_3x3_to_voigt_6_stress

from carten.errors import DataError, ModelError
from carten.interfaces.lammps.installation import Installation

BAR = 1.6021765e6
"""eV/Å³ in bar, as LAMMPS has it in units metal."""

INPUT = """
units metal
atom_style atomic
boundary {boundary}
box tilt large
read_data structure.data
pair_style carten {model}
pair_coeff * * {symbols}
compute energies all pe/atom
compute stresses all stress/atom NULL virial
thermo_style custom step pe pxx pyy pzz pxy pxz pyz
thermo_modify norm no
dump atoms all custom 1 atoms.dump id fx fy fz c_energies
dump_modify atoms sort id format float %.17g
run 0
print "answer: $(pe:%.17g) $(pxx:%.17g) $(pyy:%.17g) $(pzz:%.17g) $(pyz:%.17g) $(pxz:%.17g) $(pxy:%.17g)"
"""


@dataclass(frozen=True)
class Answer:
    """Energies (N,) in eV, forces (N, 3) in eV/Å; in a periodic cell stress (6,) in eV/Å³, ASE's sign and order."""

    energies: npt.NDArray[np.float64]
    forces: npt.NDArray[np.float64]
    stress: npt.NDArray[np.float64] | None

    @property
    def sizes(self) -> dict[str, float]:
        """The largest values, of energies relative to their mean."""
        sizes = {"energies": float(np.ptp(self.energies)), "forces": float(np.abs(self.forces).max(initial=0))}
        return sizes if self.stress is None else {**sizes, "stress": float(np.abs(self.stress).max())}

    def differences(self, other: Answer) -> dict[str, float]:
        """The largest differences: of the total energy in eV, energies of atoms, forces and stress."""
        largest = {
            "energy": abs(float(self.energies.sum() - other.energies.sum())),
            "energies": float(np.abs(self.energies - other.energies).max(initial=0)),
            "forces": float(np.abs(self.forces - other.forces).max(initial=0)),
        }
        if self.stress is not None and other.stress is not None:
            largest["stress"] = float(np.abs(self.stress - other.stress).max())
        return largest


QUANTITY_UNITS = {"energy": "eV", "energies": "eV", "forces": "eV/Å", "stress": "eV/Å³"}
TOLERANCES = {"float32": 1e-4, "float64": 1e-8}
"""Allowed differences, relative to 1 eV, Å plus the largest value: what rounding can make of sums in another order."""


def agreement_table(expected: Answer, results: Mapping[int, Answer]) -> str:
    """The largest differences to the ASE calculator, a line for each number of processes."""
    names = [name for name in QUANTITY_UNITS if name in expected.differences(expected)]
    lines = ["largest differences to the ASE calculator", "processes  " + "".join(f"{name:>12}" for name in names)]
    for processes, result in results.items():
        differences = expected.differences(result)
        lines.append(f"{processes:>9}  " + "".join(f"{differences[name]:>12.1e}" for name in names))
    lines.append(f"{'':>9}  " + "".join(f"{QUANTITY_UNITS[name]:>12}" for name in names))
    return "\n".join(lines)


def disagreement(expected: Answer, results: Mapping[int, Answer], dtype: str) -> str:
    """What differs by more than rounding explains, as a sentence; empty if nothing does."""
    for processes, result in results.items():
        differences = expected.differences(result)
        for name, size in expected.sizes.items():
            allowed = TOLERANCES[dtype] * (1 + size)
            if not differences[name] <= allowed:
                return (
                    f"LAMMPS on {processes} processes and ASE differ by {differences[name]:.1e} "
                    f"{QUANTITY_UNITS[name]} in {name}, rounding in {dtype} explains {allowed:.1e}"
                )
    return ""


def by_ase(atoms: ase.Atoms, calculator: object) -> Answer:
    """What an ASE calculator gives."""
    atoms = atoms.copy()
    atoms.calc = calculator
    stress = atoms.get_stress() if atoms.pbc.all() else None
    return Answer(atoms.get_potential_energies(), atoms.get_forces(), stress)


def by_lammps(
    atoms: ase.Atoms, model: Path, lammps: Installation, plugins: Path, processes: int = 1, timeout: float = 600.0
) -> Answer:
    """What LAMMPS gives for a structure at rest.

    Args:
        atoms: the structure; in directions that are not periodic it may have any extent.
        model: a library of ``carten export``.
        lammps: the program.
        plugins: folder of the plugin.
        processes: number of MPI processes.
        timeout: seconds.

    Raises:
        ModelError: LAMMPS failed, its message says why; or it took too long, or ``mpiexec`` is missing.
        DataError: the structure has no cell in a periodic direction.
    """
    with tempfile.TemporaryDirectory(prefix="carten-lammps-") as name:
        folder = Path(name)
        prism, symbols = write_data_file(atoms, folder / "structure.data")
        boundary = " ".join("p" if periodic else "s" for periodic in atoms.pbc)
        text = INPUT.format(boundary=boundary, model=f'"{model.resolve()}"', symbols=" ".join(symbols))
        (folder / "in.lammps").write_text(text, encoding="utf-8")
        done = launch(lammps, plugins, folder, processes, timeout)
        text = done.stdout + done.stderr
        if done.returncode or "ERROR" in text:
            lines = [line for line in text.splitlines() if "ERROR" in line or "pair_style" in line]
            raise ModelError("LAMMPS failed: " + ("\n".join(lines[:5]) or text[-3000:]))
        table = np.loadtxt(folder / "atoms.dump", skiprows=9, ndmin=2)
    line = next(line for line in done.stdout.splitlines() if line.startswith("answer: "))
    pressures = np.array([float(word) for word in line.split()[2:]])
    forces = prism.vector_to_ase(table[:, 1:4])
    stress = None
    if atoms.pbc.all():
        xx, yy, zz, yz, xz, xy = -pressures / BAR
        full = prism.tensor2_to_ase(np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]))
        stress = full_3x3_to_voigt_6_stress(full)
    return Answer(table[:, 4], forces, stress)


def write_data_file(atoms: ase.Atoms, path: Path) -> tuple[Prism, list[str]]:
    """Write the data file of a structure; return the turn of its axes and the element of each atom type.

    Raises:
        DataError: the structure has no atoms, or no cell in a periodic direction.
    """
    if not len(atoms):
        raise DataError("the structure has no atoms")
    lengths = atoms.cell.lengths()
    if (missing := atoms.pbc & (lengths == 0)).any():
        axes = ", ".join(np.array(["x", "y", "z"])[missing])
        formula = atoms.get_chemical_formula()
        raise DataError(f"{formula} is periodic along {axes} but has no cell there: set atoms.cell")
    boxed = atoms.copy()
    if not lengths.all():  # LAMMPS has a box always; where nothing is periodic its size means nothing
        boxed.center(vacuum=10.0, axis=[axis for axis in range(3) if not lengths[axis]])
        boxed.pbc = atoms.pbc
    symbols = [chemical_symbols[number] for number in sorted(set(atoms.numbers.tolist()))]
    prism = Prism(boxed.cell.array, pbc=True)
    boxed.set_masses(atomic_masses[boxed.numbers])
    with path.open("w", encoding="utf-8") as file:
        write_lammps_data(file, boxed, specorder=symbols, prismobj=prism, masses=True)
    return prism, symbols


def launch(
    lammps: Installation, plugins: Path, folder: Path, processes: int, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run ``in.lammps`` in a folder, on so many MPI processes.

    Raises:
        ModelError: it does not end in time.
    """
    command = [str(lammps.program), "-in", "in.lammps", "-log", "none"]
    if processes > 1:
        command = [_launcher(lammps), "-n", str(processes), *command]
    environment = {**os.environ, "LAMMPS_PLUGIN_PATH": str(plugins), "OMP_NUM_THREADS": "1"}  # noqa: TID251  for LAMMPS
    if lammps.library_path:
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, lammps.library_path))
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, messages = process.communicate(timeout=timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise ModelError(f"LAMMPS on {processes} processes did not end within {timeout:g} s") from error
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, messages)


def _launcher(lammps: Installation) -> str:
    """The ``mpiexec`` that belongs to a LAMMPS."""
    beside = [str(folder.parent / "bin") for folder in lammps.include if (folder / "mpi.h").is_file()]
    launcher = next(filter(None, (shutil.which("mpiexec", path=place) for place in beside)), None)
    launcher = launcher or shutil.which("mpiexec")
    if launcher is None:
        raise ModelError("mpiexec is not found: install MPI, e.g. pip install mpich")
    return launcher
