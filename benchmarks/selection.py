"""Active learning against random selection: labels needed for the same error of forces, ethanol at three temperatures.

python -m benchmarks.selection FOLDER [--seeds 0 1] [--labels 20 40 80 160] [--steps 2500] [--hot 100 40] [--methods ..]

The pool is what dynamics leaves: frames of ethanol (GFN2-xTB, shipped with carten), 400 at 300 K, few at 600 and
1000 K. All methods begin with the same random structures, and each number of labels is trained on from nothing for as
many steps. Errors are RMSE of forces on other trajectories, of the three temperatures alike. One structure in ten is
for validation. What is in the folder already is not done again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from rich.console import Console

from carten import datasets
from carten.learning.choice import choose_structures
from carten.learning.selection import Method
from carten.properties.io import load
from carten.train.config import Config
from carten.train.files import BEST
from carten.train.run import train
from carten.workflows.predict import predict

COLD, TEMPERATURES = 400, (300, 600, 1000)
METHODS: Mapping[str, Method | None] = {"random": None, "farthest": "farthest", "uncertainty": "uncertainty"}
MODEL = {"cutoff": 4.5, "n_channels": 12, "l_max_edges": 2, "l_max_features": 1, "n_members": 4}


def molecules(name: str) -> list[Atoms]:
    """Frames of a data set without isolated atoms."""
    return [atoms for atoms in ase.io.read(datasets.path(name), ":") if len(atoms) > 1]


def pool(hot: Sequence[int]) -> list[Atoms]:
    """Frames at three temperatures, evenly over their trajectories."""
    frames, chosen = molecules("ethanol_xtb_train"), []
    for temperature, count in zip(TEMPERATURES, (COLD, *hot), strict=True):
        all_at = [atoms for atoms in frames if round(atoms.info["temperature"]) == temperature]
        chosen += [all_at[k] for k in np.linspace(0, len(all_at) - 1, count).round().astype(int)]
    return chosen


def force_errors(model: Path, frames: Sequence[Atoms]) -> dict[str, float]:
    """RMSE of forces in meV/Å, of all and at each temperature."""
    values = predict(load(model), frames, ["forces"])
    squares = np.array([np.mean((v["forces"] - a.get_forces()) ** 2) for v, a in zip(values, frames, strict=True)])
    temperatures = np.array([round(atoms.info["temperature"]) for atoms in frames])
    parts = {"all": slice(None)} | {f"{t} K": temperatures == t for t in TEMPERATURES}
    return {name: 1e3 * float(np.sqrt(squares[part].mean())) for name, part in parts.items()}


def errors_of_run(
    folder: Path, frames: Sequence[Atoms], test: Sequence[Atoms], steps: int, seed: int
) -> dict[str, float]:
    """Train on some structures for so many steps; errors on the test set."""
    record = folder / "errors.json"
    if not record.exists():
        folder.mkdir(parents=True, exist_ok=True)
        held_out = len(frames) // 10
        ase.io.write(folder / "train.extxyz", frames[held_out:])
        ase.io.write(folder / "validation.extxyz", frames[:held_out])
        per_epoch = -(-(len(frames) - held_out) // 4)
        epochs = -(-steps // per_epoch)
        document = {
            "data": {"train": "train.extxyz", "validation": "validation.extxyz", "batch": {"structures": 4}},
            "properties": {"energy": {"weight": 40.0}, "forces": {}},
            "model": MODEL,
            "training": {"epochs": epochs, "validate_every": -(-epochs // 10), "ema": 0.99, "accelerator": "cpu"},
            "seed": seed,
            "output": "run",
        }
        train(Config.parse(document, folder), console=Console(quiet=True))
        record.write_text(json.dumps(force_errors(folder / "run" / BEST, test)), encoding="utf-8")
    errors: dict[str, float] = json.loads(record.read_text(encoding="utf-8"))
    return errors


def learning_curve(
    folder: Path, method: str, frames: Sequence[Atoms], labels: Sequence[int], steps: int, seed: int
) -> list[dict[str, float]]:
    """Errors for each number of labels."""
    random = np.random.default_rng(seed).permutation(len(frames))
    test, chosen = molecules("ethanol_xtb_test"), random[: labels[0]].tolist()
    curve = []
    for count in labels:
        if count > len(chosen) and method == "random":
            chosen = random[:count].tolist()
        elif count > len(chosen):
            rest = [k for k in range(len(frames)) if k not in set(chosen)]
            model = folder / f"{method}_{seed}" / str(len(chosen)) / "run" / BEST
            selection = choose_structures(
                [frames[k] for k in rest], count - len(chosen), model, METHODS[method], [frames[k] for k in chosen]
            )
            chosen += [rest[k] for k in selection.indices]
        shuffled = np.random.default_rng([seed, count]).permutation(chosen)
        name = method if count > labels[0] else "random"  # the first are the same
        errors = errors_of_run(folder / f"{name}_{seed}" / str(count), [frames[k] for k in shuffled], test, steps, seed)
        if name != method:
            _share(folder / f"{name}_{seed}" / str(count), folder / f"{method}_{seed}" / str(count))
        curve.append(errors)
        print(method, seed, count, {key: round(value, 1) for key, value in errors.items()}, flush=True)
    return curve


def _share(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    if not target.exists():
        target.symlink_to(source.absolute())


def main() -> None:
    """Train what is missing in the folder, and print a table: mean and standard deviation over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--labels", type=int, nargs="+", default=[20, 40, 80, 160])
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--hot", type=int, nargs=2, default=[100, 40], help="frames in the pool at 600 and 1000 K")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    options = parser.parse_args()
    frames, methods = pool(options.hot), options.methods
    curves = {
        (method, seed): learning_curve(options.folder, method, frames, options.labels, options.steps, seed)
        for seed in options.seeds
        for method in methods
    }
    print(f"| labels | {' | '.join(methods)} |\n|{' --- |' * (len(methods) + 1)}")
    for k, count in enumerate(options.labels):
        values = [np.array([curves[method, seed][k]["all"] for seed in options.seeds]) for method in methods]
        print(f"| {count} | {' | '.join(f'{each.mean():.0f} ± {each.std():.0f}' for each in values)} |")


if __name__ == "__main__":
    main()
