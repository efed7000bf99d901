"""What fine-tuning gains and forgets: acetylacetone (50 frames) from a model of aspirin and ethanol.

python -m benchmarks.finetuning DATA FOLDER [--minutes 14] [--epochs 40] [--only NAME ..]

DATA holds rmd17/ and acac/ as extended XYZ (see docs/studies.md). The model of aspirin and ethanol is trained once, to
FOLDER/source; every variant then takes the same number of epochs. Errors are of forces on held-out frames of both.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from rich.console import Console

from carten.properties.io import load
from carten.train.config import Config
from carten.train.files import BEST
from carten.train.run import train
from carten.workflows.predict import predict

N_SOURCE, N_FRAMES, N_TEST = 300, 60, 60
START = {"start": "source/best.carten"}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "from nothing": {"optimizer": {"lr": 0.015}},
    "full": {**START, "optimizer": {"lr": 0.015}},
    "frozen": {**START, "freeze": ["embedding", "interactions", "updates"], "optimizer": {"lr": 0.02}},
    "lora": {**START, "lora": {"rank": 2}, "optimizer": {"lr": 0.045}},
    "replay": {**START, "replay": {"data": "source.extxyz", "structures": 100}, "optimizer": {"lr": 0.005}},
}


def write_data(data: Path, folder: Path) -> None:
    """Frames of aspirin and ethanol, of acetylacetone, and those held out."""
    parts = {
        "source": [(f"rmd17/{name}_train.extxyz", f":{N_SOURCE}") for name in ("aspirin", "ethanol")],
        "source_test": [(f"rmd17/{name}_test.extxyz", f":{N_TEST}") for name in ("aspirin", "ethanol")],
        "acac": [("acac/train_300K.extxyz", f":{N_FRAMES}")],
        "acac_test": [("acac/test_300K.extxyz", f"::{650 // (2 * N_TEST)}")],
    }
    for name, files in parts.items():
        frames = [atoms for path, index in files for atoms in ase.io.read(data / path, index)]
        ase.io.write(folder / f"{name}.extxyz", frames)


def configuration(folder: Path, name: str, sections: Mapping[str, Any], training: Mapping[str, Any]) -> Config:
    """A run on ``NAME.extxyz``; ten frames choose the best model."""
    document = {
        "data": {"train": f"{name}.extxyz", "validation": 10, "batch": {"structures": 5}},
        "training": {"accelerator": "cpu", "validate_every": 5, "ema": 0.99, **training},
        **sections,
    }
    if "start" not in sections:
        document["model"] = {"n_channels": 32, "l_max_features": 1}
    return Config.parse(document, folder)


def force_error(model: Path, structures: Path) -> float:
    """Root mean square error of forces, meV/Å."""
    frames = ase.io.read(structures, ":")
    forces = [values["forces"] for values in predict(load(model), frames, ["forces"])]
    differences = np.concatenate([values - atoms.get_forces() for values, atoms in zip(forces, frames, strict=True)])
    return 1e3 * float(np.sqrt(np.mean(differences**2)))


def main() -> None:
    """Train what is missing in the folder, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=14.0, help="for the model of aspirin and ethanol")
    parser.add_argument("--epochs", type=int, default=40, help="of the others, ten steps each")
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(exist_ok=True)
    if not (folder / "source.extxyz").exists():
        write_data(options.data, folder)
    if not (folder / "source" / BEST).exists():
        training = {"epochs": 1000, "max_minutes": options.minutes}
        train(configuration(folder, "source", {"output": "source"}, training), console=Console())
    print("| | acetylacetone, meV/Å | aspirin and ethanol, meV/Å | minutes |\n| --- | --- | --- | --- |")
    print(f"| source | | {force_error(folder / 'source' / BEST, folder / 'source_test.extxyz'):.1f} | |")
    for name in options.only:
        sections = {**VARIANTS[name], "output": name}
        result = train(configuration(folder, "acac", sections, {"epochs": options.epochs}), console=Console(quiet=True))
        errors = [force_error(result.model, folder / f"{part}.extxyz") for part in ("acac_test", "source_test")]
        print(f"| {name} | {errors[0]:.1f} | {errors[1]:.1f} | {result.minutes:.1f} |", flush=True)


if __name__ == "__main__":
    main()
