"""The kinds of input that are attacked: what they are made from, how they are changed, and what reads them."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from benchmarks.robustness import mutations
from benchmarks.robustness.kills import killed_runs
from benchmarks.robustness.mutations import Random, pick
from benchmarks.robustness.processes import Attempt
from carten.cli import app
from carten.cli.application import USER_ERRORS
from carten.data.neighbours import graph
from carten.data.read import read_structures
from carten.errors import ModelFileError
from carten.properties import container
from carten.properties import io as model_files
from carten.train.checkpoint import CHECKPOINT_KEY, SafetensorsCheckpoint
from carten.train.config import Config
from carten.train.resume import Progress

NETWORK = {"n_channels": 4, "n_layers": 1, "l_max_edges": 1, "l_max_features": 1, "correlation_order": 2, "cutoff": 3.5}
COMPRESSIONS: Mapping[str, Callable[[bytes], bytes]] = {
    "": lambda data: data, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress
}  # fmt: skip
FORMATS = ("traj", "db", "json", "cif", "vasp", "xsf", "cube", "aims", "gen", "proteindatabank", "lammps-data")


@dataclass(frozen=True)
class Originals:
    """What inputs are made from.

    Args:
        folder: in which all files lie.
        config: of a small training.
    """

    folder: Path
    config: dict[str, Any]

    @property
    def data(self) -> Path:
        """Labelled crystals."""
        return self.folder / "train.extxyz"

    @property
    def molecules(self) -> Path:
        """Molecules with words, vectors and flags in the comment line."""
        return self.folder / "molecules.extxyz"

    @property
    def model(self) -> Path:
        """A trained model."""
        return self.folder / "run" / "best.carten"

    @property
    def checkpoint(self) -> Path:
        """Of the run that trained it."""
        return self.folder / "run" / "last.ckpt"


def originals(folder: Path) -> Originals:
    """Make the originals: crystals of effective medium theory and a model trained on them."""
    rng = np.random.default_rng(0)
    ase.io.write(folder / "train.extxyz", [_crystal(rng) for _ in range(8)])
    water = molecule("H2O")
    water.info = {"energy": -1.0, "config_type": "liquid", "dipole": [0.1, 0.2, 0.3], "relaxed": True, "charge": 0}
    water.arrays["forces"] = rng.normal(size=(3, 3))
    ase.io.write(folder / "molecules.extxyz", [water, molecule("CH4")])
    config = {
        "data": {"train": str(folder / "train.extxyz"), "validation": 2, "batch": {"structures": 3}},
        "model": {**NETWORK, "radial": {"hidden": [4], "n_basis": 3}},
        "properties": {"energy": {"key": "energy"}, "forces": {"key": "forces"}},
        "optimizer": {"lr": 0.01},
        "training": {"epochs": 2, "accelerator": "cpu"},
        "seed": 1,
        "output": str(folder / "run"),
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    if command(["train", str(path), "--backend", "reference"]) != "accepted":
        raise RuntimeError("the original configuration was not accepted")
    return Originals(folder, config)


def _crystal(rng: Random) -> Atoms:
    atoms = bulk("Cu", "fcc", 3.8, cubic=True)
    atoms.numbers[: int(rng.integers(1, 4))] = 79
    atoms.positions += 0.1 * rng.normal(size=(4, 3))
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def command(arguments: list[str]) -> str:
    """Outcome of a command line, in this process."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            app(arguments)
        except SystemExit as stop:
            return "clean error" if stop.code else "accepted"
    return "accepted"


def extended_xyz(base: Originals, seed: int) -> Attempt:
    """Extended XYZ, plain and compressed, under all kinds of names."""
    texts = [base.data.read_bytes(), base.molecules.read_bytes()]

    def attempt(number: int, folder: Path) -> str:
        rng = np.random.default_rng([seed, number])
        kind = pick(rng, tuple(COMPRESSIONS))
        data = COMPRESSIONS[kind](mutations.of_text(rng, pick(rng, texts)))
        if rng.random() < 0.3:
            data = mutations.of_bytes(rng, data)
        path = folder / f"{pick(rng, ('a.extxyz', 'a.xyz', 'b.XYZ', 'b'))}{kind}"
        path.write_bytes(data)
        return command([*pick(rng, (["check"], ["check"], ["init", "--data"])), str(path)])

    return attempt


def structures(base: Originals, seed: int) -> Attempt:
    """Structure files of other formats."""
    frames = [atoms for _, atoms in read_structures(base.data)]
    kept = {}
    for kind in FORMATS:
        path = base.folder / f"structures.{kind}"
        ase.io.write(path, frames if kind in ("traj", "db") else frames[0], format=kind)
        kept[kind] = path.read_bytes()

    def attempt(number: int, folder: Path) -> str:
        rng = np.random.default_rng([seed, number])
        kind = pick(rng, FORMATS)
        change = mutations.of_bytes if kind in ("traj", "db") or rng.random() < 0.3 else mutations.of_text
        names = {"vasp": "POSCAR", "aims": "geometry.in", "proteindatabank": "a.pdb", "lammps-data": "a.lmp"}
        path = folder / names.get(kind, f"a.{kind}")
        path.write_bytes(change(rng, kept[kind]))
        return command(["check", str(path)])

    return attempt


def configurations(base: Originals, seed: int) -> Attempt:
    """Configurations that are read."""

    def attempt(number: int, folder: Path) -> str:
        path = _changed_config(base, np.random.default_rng([seed, number]), folder)
        try:
            Config.load(path)
        except USER_ERRORS:
            return "clean error"
        return "accepted"

    return attempt


def trainings(base: Originals, seed: int) -> Attempt:
    """Configurations that are accepted, trained for two epochs."""

    def attempt(number: int, folder: Path) -> str:
        rng = np.random.default_rng([seed, number])
        while True:
            path = _changed_config(base, rng, folder)
            with contextlib.suppress(*USER_ERRORS):
                document = Config.load(path).model_dump(mode="json")
                break
        document["training"] = {**document["training"], "epochs": 2, "accelerator": "cpu"}
        document["output"] = str(folder / "run")
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return command(["train", str(path), "--backend", "reference"])

    return attempt


def _changed_config(base: Originals, rng: Random, folder: Path) -> Path:
    document = {**base.config, "output": str(folder / "run")}
    if rng.random() < 0.7:
        document = mutations.of_document(rng, document)
    data = yaml.safe_dump(document, allow_unicode=True).encode()
    if rng.random() < 0.4:
        data = mutations.of_text(rng, data)
    path = folder / "config.yaml"
    path.write_bytes(data)
    return path


def models(base: Originals, seed: int) -> Attempt:
    """Model files: read, described, and asked for the energy of the original."""
    data = base.model.read_bytes()
    inputs = graph(read_structures(base.data)[0][1], NETWORK["cutoff"])
    expected = model_files.load(base.model, backend="reference")(inputs, ["energy"])["energy"]

    def attempt(number: int, folder: Path) -> str:
        rng = np.random.default_rng([seed, number])
        signed = rng.random() < 0.3
        path = folder / "model.carten"
        if signed or rng.random() < 0.6:
            path.write_bytes(mutations.of_safetensors(rng, data, model_files.KEY, signed))
            if signed:
                _sign(path)
        else:
            path.write_bytes(mutations.of_bytes(rng, data))
        outcome = command(["info", str(path)])
        if outcome == "accepted" and not signed:
            energy = model_files.load(path, backend="reference")(inputs, ["energy"])["energy"]
            return "accepted" if torch.equal(energy, expected) else "silent"
        return outcome

    return attempt


def _sign(path: Path) -> None:
    """Make the checksum of a model file fit, where it can be read at all."""
    with contextlib.suppress(ModelFileError, ValueError, RecursionError):
        tensors, metadata = container.parts(path)
        header = json.loads(metadata[model_files.KEY])
        if isinstance(header, dict):
            header.pop(container.CHECKSUM, None)
            container.write(path, model_files.KEY, tensors, header, overwrite=True)


def checkpoints(base: Originals, seed: int) -> Attempt:
    """Checkpoints: read, and where they are accepted, resumed."""
    data = base.checkpoint.read_bytes()
    original = SafetensorsCheckpoint().load_checkpoint(base.checkpoint)["state_dict"]

    def attempt(number: int, folder: Path) -> str:
        rng = np.random.default_rng([seed, number])
        path = folder / "last.ckpt"
        if rng.random() < 0.6:
            path.write_bytes(mutations.of_safetensors(rng, data, CHECKPOINT_KEY, signed=False))
        else:
            path.write_bytes(mutations.of_bytes(rng, data))
        try:
            Progress.read(path)
            weights = SafetensorsCheckpoint().load_checkpoint(path)["state_dict"]
        except USER_ERRORS:
            return "clean error"
        same = all(torch.equal(value, weights[name]) for name, value in original.items())
        return "accepted" if same else "silent"

    return attempt


def command_lines(base: Originals, seed: int) -> Attempt:
    """Command lines: right ones with odd words in them."""
    model, data = str(base.model), str(base.data)
    lines = [
        ["check", data, "--cutoff", "4"],
        ["init", "--data", data],
        ["info", model, "--json"],
        ["predict", model, data, "-o", "out.extxyz", "--properties", "energy,forces", "--max-atoms", "50"],
        ["evaluate", model, data, "--json", "out.json", "--label", "energy=energy:eV", "--dtype", "float32"],
        ["md", model, data, "--steps", "2", "--temperature", "300", "--timestep", "1", "--seed", "3"],
        ["train", str(base.folder / "config.yaml"), "--seed", "3"],
    ]

    def attempt(number: int, folder: Path) -> str:
        rng = np.random.default_rng([seed, number])
        line = list(pick(rng, lines))
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(1, len(line)))
            match int(rng.integers(4)):
                case 0:
                    del line[place]
                case 1:
                    line.insert(place, line[int(rng.integers(1, len(line)))])
                case _:
                    line[place] = str(pick(rng, (*mutations.WORDS, *mutations.NUMBERS[:12], str(folder), model, data)))
            if len(line) < 2:
                break
        (folder / "line.txt").write_text(repr(line), encoding="utf-8", errors="replace")
        return command(line)

    return attempt


KINDS: Mapping[str, Callable[[Originals, int], Attempt]] = {
    "extxyz": extended_xyz,
    "structures": structures,
    "configurations": configurations,
    "trainings": trainings,
    "models": models,
    "checkpoints": checkpoints,
    "commands": command_lines,
    "kills": lambda base, seed: killed_runs(base.config, seed, 1),
    "kills of two": lambda base, seed: killed_runs(base.config, seed, 2),
}
"""By name: from originals and a seed to attempts by number."""
