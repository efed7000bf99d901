"""Make the data sets that carten ships, with electronic-structure programs from PyPI.

Set up, then one command per level (the second starts from the geometries of the first):

    python -m venv qm && qm/bin/pip install ase numpy tblite==0.8.0 pyscf==2.14.0 pyscf-properties==0.1.0
    qm/bin/python scripts/make_datasets.py ethanol-xtb      # GFN2-xTB molecular dynamics          ~ 10 min
    qm/bin/python scripts/make_datasets.py ethanol-dft      # PBE0 at a subset of these geometries ~ 1 h
    qm/bin/python scripts/make_datasets.py bn-xtb           # GFN1-xTB, strained cubic BN          ~ 10 s
    qm/bin/python scripts/make_datasets.py check            # signs and derivatives, printed

Every level is seeded, and labels are computed at the rounded positions that are written.
"""

from __future__ import annotations

import argparse
import gzip
import io
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.io import read
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import BFGS

Label = dict[str, np.ndarray]
Frame = tuple[Atoms, Label]
Snapshots = list[tuple[float, Atoms]]

OUT = Path(__file__).resolve().parents[1] / "src" / "carten" / "datasets"
CACHE = Path(__file__).resolve().parents[1] / "build" / "datasets"
TEMPERATURES = (300, 600, 1000)
UNPAIRED = {"H": 1, "C": 2, "O": 2, "B": 1, "N": 3}  # unpaired electrons of the ground state of the atom
PER_ATOM = {"forces": 3, "charges": 1}


# ---------------------------------------------------------------------------------------------------- writing


def decimals(value: np.ndarray | float, places: int) -> str:
    """Numbers with a fixed number of decimals, and no negative zero."""
    rounded = np.round(np.asarray(value, dtype=float).ravel(), places) + 0.0
    return " ".join(f"{number:.{places}f}" for number in rounded)


def header(atoms: Atoms, label: Label) -> str:
    """The comment line of extended XYZ: cell, columns, labels, then further facts about the frame."""
    columns = "species:S:1:pos:R:3" + "".join(f":{key}:R:{PER_ATOM[key]}" for key in PER_ATOM if key in label)
    lattice = [f'Lattice="{decimals(atoms.cell.array, 6)}"'] if atoms.pbc.any() else []
    places = {"energy": 7, "dipole": 6, "polarizability": 5, "stress": 8}
    numbers = {key: decimals(label[key], digits) for key, digits in places.items() if key in label}
    labels = [f'{key}="{text}"' if " " in text else f"{key}={text}" for key, text in numbers.items()]
    info = [f"{key}={value}" for key, value in atoms.info.items()]
    pbc = " ".join("FT"[int(flag)] for flag in atoms.pbc)
    return " ".join([*lattice, f"Properties={columns}", *labels, *info, f'pbc="{pbc}"'])


def write(name: str, frames: Sequence[Frame]) -> None:
    """Write a data set; the bytes depend on the frames alone (no time stamp in the gzip header)."""
    text = io.StringIO()
    for atoms, label in frames:
        text.write(f"{len(atoms)}\n{header(atoms, label)}\n")
        table = np.hstack([np.reshape(label[key], (len(atoms), -1)) for key in PER_ATOM if key in label])
        for symbol, position, row in zip(atoms.symbols, atoms.positions, table, strict=True):
            text.write(f"{symbol} {decimals(position, 6)} {decimals(row, 6)}\n")
    target = OUT / f"{name}.xyz.gz"
    target.write_bytes(gzip.compress(text.getvalue().encode(), 9, mtime=0))
    print(f"{target.name}: {len(frames)} frames, {target.stat().st_size / 1e3:.0f} kB", flush=True)


def origin(split: str, temperature: int, seed: int, when: float) -> dict[str, Any]:
    """What is written about a frame of a trajectory; time in fs."""
    trajectory = f"{split}_{temperature}K_{seed}"
    return {"config_type": "md", "temperature": temperature, "trajectory": trajectory, "time_fs": f"{when:.1f}"}


def centred(atoms: Atoms) -> Atoms:
    """A copy with its centre of mass in the origin and positions as they will be written."""
    return Atoms(atoms.symbols, np.round(atoms.positions - atoms.get_center_of_mass(), 6), info=dict(atoms.info))


# ---------------------------------------------------------------------------------------------------- GFN-xTB


def xtb(method: str, multiplicity: int = 1) -> Any:
    """GFN-xTB by tblite, with a tightly converged self-consistent charge cycle."""
    from tblite.ase import TBLite

    return TBLite(method=method, accuracy=0.01, multiplicity=multiplicity, verbosity=0)


def energy_in_field(atoms: Atoms, field: np.ndarray) -> float:
    """GFN2-xTB energy in eV in a field in V/A (tblite 0.8.0 wants a C pointer, its ASE part gives an array)."""
    from tblite import interface, library

    single = interface.Calculator("GFN2-xTB", atoms.numbers, atoms.positions / units.Bohr)
    single.set("accuracy", 0.01)
    single.set("verbosity", 0)
    atomic_units = np.ascontiguousarray(field * units.Bohr / units.Hartree)
    single.add("electric-field", library.ffi.cast("double *", atomic_units.ctypes.data))
    return single.singlepoint().get("energy") * units.Hartree


def xtb_label(atoms: Atoms, method: str, multiplicity: int = 1) -> Label:
    """Labels of one structure from a calculation that starts afresh."""
    single = atoms.copy()
    single.calc = xtb(method, multiplicity)
    label = {"energy": single.get_potential_energy(), "forces": single.get_forces(), "charges": single.get_charges()}
    if atoms.pbc.any():
        return label | {"stress": single.get_stress(voigt=False)}
    return label | {"dipole": single.get_dipole_moment()}


def xtb_isolated(symbols: Iterable[str], method: str) -> list[Frame]:
    """The isolated atoms, with the unpaired electrons of their ground states."""
    frames = []
    for symbol in symbols:
        atom = Atoms(symbol, [[0.0, 0.0, 0.0]], info={"config_type": "isolated_atom"})
        label = xtb_label(atom, method, UNPAIRED[symbol] + 1)
        frames.append((atom, {key: label[key] for key in ("energy", "forces", "charges")}))
    return frames


def sample(atoms: Atoms, temperature: int, seed: int, frames: int, stride: int, timestep: float) -> Snapshots:
    """Langevin dynamics (friction 0.01/fs): 10 strides to equilibrate, then a frame per stride, with its time in fs."""
    rng = np.random.default_rng(seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    settings = {"temperature_K": temperature, "friction": 0.01 / units.fs, "fixcm": False, "rng": rng}
    dynamics = Langevin(atoms, timestep * units.fs, **settings)
    dynamics.run(10 * stride)
    taken = []
    for _ in range(frames):
        dynamics.run(stride)
        taken.append((dynamics.nsteps * timestep, atoms.copy()))
    return taken


def ethanol(dihedral: float) -> Atoms:
    """Ethanol relaxed near a C-C-O-H angle in degrees: 180 is trans, 60 gauche."""
    atoms = molecule("CH3CH2OH")
    carbon = next(i for i in (0, 1) if atoms.get_distance(i, 2) < 1.6)
    hydrogen = next(i for i in range(3, 9) if atoms.get_distance(2, i) < 1.1)
    atoms.set_dihedral(1 - carbon, carbon, 2, hydrogen, dihedral, indices=[hydrogen])
    atoms.calc = xtb("GFN2-xTB")
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=200)
    return atoms


def ethanol_trajectory(job: tuple[str, int, int, float, int]) -> list[Frame]:
    """One trajectory of ethanol, labelled."""
    split, temperature, seed, dihedral, frames = job
    labelled = []
    for when, snapshot in sample(ethanol(dihedral), temperature, seed, frames, 200, 0.5):
        snapshot.info = origin(split, temperature, seed, when)
        frame = centred(snapshot)
        labelled.append((frame, xtb_label(frame, "GFN2-xTB")))
    print(job, "done", flush=True)
    return labelled


def parallel(work: Callable[[Any], list[Frame]], jobs: Sequence[Any], workers: int) -> list[Frame]:
    """Frames of all jobs, in the order of the jobs."""
    with ProcessPoolExecutor(workers) as pool:
        return [frame for frames in pool.map(work, jobs) for frame in frames]


def make_ethanol_xtb(workers: int) -> None:
    """GFN2-xTB: 1200 training frames of six trajectories, 300 test frames of three others."""
    train = [("train", t, seed, angle, 200) for t in TEMPERATURES for seed, angle in ((1, 180.0), (2, 60.0))]
    test = [("test", t, 3, 120.0, 100) for t in TEMPERATURES]
    write("ethanol_xtb_train", xtb_isolated("HCO", "GFN2-xTB") + parallel(ethanol_trajectory, train, workers))
    write("ethanol_xtb_test", parallel(ethanol_trajectory, test, workers))


# ------------------------------------------------------------------------------------------------- boron nitride


def nitride(split: str, seed: int) -> Frame:
    """The cubic cell of zinc-blende BN under a random strain, its atoms displaced at random, labelled with stress."""
    rng = np.random.default_rng([seed, split == "test"])
    strain, displacement = rng.normal(scale=0.02, size=(3, 3)), rng.uniform(0.02, 0.1)
    crystal = bulk("BN", "zincblende", a=3.67, cubic=True)
    crystal.set_cell(np.round(crystal.cell.array @ (np.eye(3) + (strain + strain.T) / 2), 6), scale_atoms=True)
    crystal.positions = np.round(crystal.positions + rng.normal(scale=displacement, size=(8, 3)), 6)
    crystal.info = {"config_type": "displaced", "seed": f"{split}_{seed}"}
    return crystal, xtb_label(crystal, "GFN1-xTB")


def make_bn_xtb(_: int) -> None:
    """GFN1-xTB (Gamma point): 80 training and 20 test frames, every one in its own cell."""
    write("bn_xtb_train", xtb_isolated("BN", "GFN1-xTB") + [nitride("train", seed) for seed in range(80)])
    write("bn_xtb_test", [nitride("test", seed) for seed in range(20)])


# ---------------------------------------------------------------------------------------------------------- PBE0


def pbe0(atoms: Atoms, unpaired: int = 0, field: Sequence[float] = (0.0, 0.0, 0.0)) -> Any:
    """A converged PBE0/6-31+G* calculation with density fitting on grid level 2, in a field in atomic units."""
    from pyscf import dft, gto

    geometry = list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True))
    system = gto.M(atom=geometry, basis="6-31+g*", spin=unpaired, verbose=0)
    core = np.einsum("x,xij->ij", field, system.intor("int1e_r"))
    nuclei = float(np.dot(field, system.atom_charges() @ system.atom_coords()))
    density = None
    for level, tolerance in ((0, 1e-7), (2, 1e-9)):
        scf = (dft.UKS if unpaired else dft.RKS)(system, xc="pbe0").density_fit()
        scf.grids.level, scf.conv_tol = level, tolerance
        hamiltonian, repulsion = scf.get_hcore() + core, scf.energy_nuc() - nuclei
        scf.get_hcore = lambda *_, matrix=hamiltonian: matrix
        scf.energy_nuc = lambda *_, energy=repulsion: energy
        if unpaired:
            scf = scf.newton()  # the partly filled p shell of an atom stalls plain iterations
        scf.kernel(dm0=density)
        density = scf.make_rdm1()
    if not scf.converged:
        raise RuntimeError(f"self-consistent field not converged: {atoms.info}")
    return scf


def polarizability(scf: Any) -> np.ndarray:
    """Static polarizability in A^3 by the coupled-perturbed equations (response of the functional on grid level 1)."""
    from pyscf import dft
    from pyscf.prop.polarizability.rks import Polarizability

    fine, scf.grids = scf.grids, dft.gen_grid.Grids(scf.mol)
    scf.grids.level = 1
    scf.grids.build()
    response = Polarizability(scf)
    response.conv_tol = 1e-3
    tensor = response.polarizability() * units.Bohr**3
    scf.grids = fine
    return (tensor + tensor.T) / 2


def dft_forces(scf: Any) -> np.ndarray:
    """Forces in eV/A, with the response of grid and auxiliary basis: the exact derivative of the energy."""
    gradient = scf.nuc_grad_method()
    gradient.grid_response = True
    return -gradient.kernel() * units.Hartree / units.Bohr


def dft_dipole(scf: Any) -> np.ndarray:
    """Dipole in e*A, pointing from the negative to the positive charge."""
    return scf.dip_moment(unit="AU", verbose=0) * units.Bohr


def dft_frame(frame: Atoms) -> Frame:
    """One structure, labelled; computed once, then read from the cache."""
    kept = CACHE / f"pbe0_{frame.info['trajectory']}_{frame.info['time_fs']}.npz"
    if kept.exists():
        with np.load(kept) as stored:
            return frame, dict(stored)
    scf = pbe0(frame)
    label = {
        "energy": np.float64(scf.e_tot * units.Hartree),
        "forces": dft_forces(scf),
        "dipole": dft_dipole(scf),
        "polarizability": polarizability(scf),
    }
    partial = kept.with_suffix(".part.npz")
    np.savez(partial, **label)
    partial.rename(kept)
    return frame, label


def dft_isolated(symbols: Iterable[str]) -> list[Frame]:
    """The isolated atoms in their ground states, spin-polarised."""
    frames = []
    for symbol in symbols:
        atom = Atoms(symbol, [[0.0, 0.0, 0.0]], info={"config_type": "isolated_atom"})
        energy = pbe0(atom, UNPAIRED[symbol]).e_tot * units.Hartree
        frames.append((atom, {"energy": np.float64(energy), "forces": np.zeros((1, 3))}))
    return frames


def dft_geometries(name: str, stride: int) -> list[Atoms]:
    """Every stride-th frame of each trajectory of a GFN2-xTB set, first frames of all trajectories first."""
    trajectories: dict[str, list[Atoms]] = {}
    for atoms in read(OUT / f"{name}.xyz.gz", ":"):
        if "trajectory" in atoms.info:
            info = {key: atoms.info[key] for key in ("config_type", "temperature", "trajectory", "time_fs")}
            trajectories.setdefault(info["trajectory"], []).append(Atoms(atoms.symbols, atoms.positions, info=info))
    taken = zip(*(frames[::stride] for frames in trajectories.values()), strict=True)
    return [frame for frames in taken for frame in frames]


def make_ethanol_dft(workers: int) -> None:
    """PBE0: every fifth geometry of both GFN2-xTB sets: 240 training and 60 test frames."""
    CACHE.mkdir(parents=True, exist_ok=True)
    train, test = (dft_geometries(f"ethanol_xtb_{split}", 5) for split in ("train", "test"))
    order = [frame for k in range(len(test)) for frame in (*train[4 * k : 4 * k + 4], test[k])]
    start = time.perf_counter()
    with ProcessPoolExecutor(workers) as pool:
        for done, (frame, _) in enumerate(pool.map(dft_frame, order), start=1):
            print(f"{done}/{len(order)} {frame.info['trajectory']} {time.perf_counter() - start:.0f} s", flush=True)
    write("ethanol_dft_train", dft_isolated("HCO") + [dft_frame(frame) for frame in train])
    write("ethanol_dft_test", [dft_frame(frame) for frame in test])


# -------------------------------------------------------------------------------------------------------- checks


def difference(value: Callable[[float], Any], step: float) -> Any:
    """Central difference of fourth order at zero."""
    near, far = value(step) - value(-step), value(2 * step) - value(-2 * step)
    return (8 * near - far) / (12 * step)


def moved(atoms: Atoms, atom: int, axis: int, by: float) -> Atoms:
    """A copy with one coordinate changed."""
    copy = atoms.copy()
    copy.positions[atom, axis] += by
    return copy


def strained(atoms: Atoms, i: int, j: int, by: float) -> Atoms:
    """A copy under a symmetric strain with one independent component."""
    copy, strain = atoms.copy(), np.zeros((3, 3))
    strain[i, j] += by / 2
    strain[j, i] += by / 2
    copy.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    return copy


def report(what: str, written: np.ndarray, found: Sequence[Any], unit: str) -> None:
    """Print how far labels lie from derivatives."""
    error = np.abs(np.asarray(found) - written).max()
    print(f"{what}: largest deviation {error:.1e} of {np.abs(written).max():.3g} {unit}", flush=True)


def check_xtb() -> None:
    """Labels in the files against derivatives of GFN-xTB energies."""
    axes = range(3)
    ethanol_, nitride = read(OUT / "ethanol_xtb_test.xyz.gz", "-1"), read(OUT / "bn_xtb_test.xyz.gz", "-1")

    def slope(atoms: Atoms, change: Callable[..., Atoms], first: int, second: int) -> float:
        method = "GFN1-xTB" if atoms.pbc.any() else "GFN2-xTB"
        return difference(lambda h: xtb_label(change(atoms, first, second, h), method)["energy"], 2e-3)

    for name, atoms in (("GFN2-xTB", ethanol_), ("GFN1-xTB", nitride)):
        forces = [[-slope(atoms, moved, atom, k) for k in axes] for atom in range(len(atoms))]
        report(f"{name} forces = -dE/dr", atoms.get_forces(), forces, "eV/A")
    stress = [[slope(nitride, strained, i, j) / nitride.get_volume() for j in axes] for i in axes]
    report("GFN1-xTB stress = dE/dstrain / V", nitride.get_stress(voigt=False), stress, "eV/A^3")
    dipole = [-difference(lambda h, axis=axis: energy_in_field(ethanol_, h * axis), 5e-3) for axis in np.eye(3)]
    report("GFN2-xTB dipole = -dE/dF", ethanol_.get_dipole_moment(), dipole, "e*A")


def check_dft() -> None:
    """Labels in the files against derivatives of PBE0 energies (one C, the O and its H) and dipoles."""
    frame = read(OUT / "ethanol_dft_test.xyz.gz", "-1")

    def slope(atom: int, axis: int) -> float:
        return difference(lambda h: pbe0(moved(frame, atom, axis, h)).e_tot, 4e-3) * units.Hartree

    forces = [[-slope(atom, axis) for axis in range(3)] for atom in (1, 2, 3)]
    report("PBE0 forces = -dE/dr", frame.get_forces()[1:4], forces, "eV/A")
    in_field = {h: [pbe0(frame, field=h * axis) for axis in np.eye(3)] for h in (-4e-3, -2e-3, 2e-3, 4e-3)}
    energies = difference(lambda h: np.array([scf.e_tot for scf in in_field[h]]), 2e-3)
    report("PBE0 dipole = -dE/dF", frame.get_dipole_moment(), -energies * units.Bohr, "e*A")
    dipoles = difference(lambda h: np.array([dft_dipole(scf) for scf in in_field[h]]), 2e-3) * units.Bohr**2
    report("PBE0 polarizability = d dipole/dF", np.reshape(frame.info["polarizability"], (3, 3)), dipoles, "A^3")


def check(_: int) -> None:
    """Print every check."""
    check_xtb()
    check_dft()


def main() -> None:
    """Read the command line."""
    commands = {"ethanol-xtb": make_ethanol_xtb, "ethanol-dft": make_ethanol_dft, "bn-xtb": make_bn_xtb, "check": check}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(commands))
    parser.add_argument("--workers", type=int, default=1, help="processes to use")
    arguments = parser.parse_args()
    start = time.perf_counter()
    OUT.mkdir(parents=True, exist_ok=True)
    commands[arguments.what](arguments.workers)
    print(f"{arguments.what}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
