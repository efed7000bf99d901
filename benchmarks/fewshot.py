"""The shipped model "organic" with few labels: fine-tuned, and the same network from nothing, at equal time.

    python -m benchmarks.fewshot DATA FOLDER [--frames 50 200] [--steps 400] [--only aspirin ..]

DATA holds acac/, 3bpa/ and rmd17/ as extended XYZ (docs/studies.md). All runs of one length take the same number of
steps of five structures, so that both runs of a molecule cost the same, whatever else the machine does; a tenth of the
frames chooses the best epoch, and no label is used beside the number stated. Errors are of frames held out. Results of
runs are kept in benchmarks/fewshot.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from carten.properties.io import load
from carten.train.config import Config
from carten.train.run import train
from carten.workflows.predict import predict

RESULTS = Path(__file__).with_name("fewshot.json")
MOLECULES: Mapping[str, tuple[str, str]] = {
    "acetylacetone": ("acac/train_300K.extxyz", "acac/test_300K.extxyz"),
    "3BPA": ("3bpa/train_300K.extxyz", "3bpa/test_300K.extxyz"),
    "aspirin": ("rmd17/aspirin_train.extxyz", "rmd17/aspirin_test.extxyz"),
    "ethanol": ("rmd17/ethanol_train.extxyz", "rmd17/ethanol_test.extxyz"),
}
PUBLISHED: Mapping[tuple[str, int], float] = {("aspirin", 50): 43.9, ("ethanol", 50): 32.6}
"""MAE of forces of MACE trained from nothing on as many frames, meV/Å (Kovács et al. 2023)."""
BATCH, N_TEST = 5, 300
NOTHING = {
    "model": {"n_channels": 96, "l_max_features": 1},
    "terms": [{"kind": "zbl"}],
    "optimizer": {"lr": 0.01},
}
TUNED = {"start": "organic", "optimizer": {"lr": 0.01}}
WAYS: Mapping[str, Mapping[str, Any]] = {"from nothing": NOTHING, "organic": TUNED}


def chosen(path: Path, count: int) -> list[Atoms]:
    """Frames of a file, drawn with one seed: more are those of fewer, and others."""
    frames = list(ase.io.iread(path, ":"))
    return [frames[k] for k in np.random.default_rng(0).permutation(len(frames))[:count]]


def configuration(folder: Path, frames: Path, count: int, steps: int, sections: Mapping[str, Any]) -> Config:
    """A run of so many steps on some frames."""
    n_validation = count // 10
    epochs = steps // ((count - n_validation) // BATCH)
    document = {
        "data": {"train": str(frames), "validation": n_validation, "batch": {"structures": BATCH}},
        "properties": {"energy": {}, "forces": {"weight": 10.0}},
        "training": {"accelerator": "cpu", "epochs": epochs, "validate_every": max(epochs // 20, 1), "ema": 0.99},
        **sections,
    }
    return Config.parse(document, folder)


def errors(model: Path, frames: Sequence[Atoms]) -> dict[str, float]:
    """Errors of forces on held-out frames, meV/Å."""
    predicted = predict(load(model), frames, ["forces"])
    differences = np.concatenate(
        [values["forces"] - atoms.get_forces() for values, atoms in zip(predicted, frames, strict=True)]
    )
    return {"rmse": 1e3 * float(np.sqrt(np.mean(differences**2))), "mae": 1e3 * float(np.abs(differences).mean())}


def measured(data: Path, folder: Path, molecule: str, count: int, steps: int, way: str) -> dict[str, Any]:
    """A run, the seconds of a processor that it took, and its errors."""
    name = f"{molecule}-{count}-{steps}-{way.replace(' ', '-')}"
    files = [data / path for path in MOLECULES[molecule]]
    frames = folder / f"{molecule}-{count}.extxyz"
    ase.io.write(frames, chosen(files[0], count))
    config = configuration(folder, frames, count, steps, {**WAYS[way], "output": name})
    before = time.process_time()
    result = train(config)
    seconds = time.process_time() - before
    facts = {"molecule": molecule, "frames": count, "steps": steps, "way": way, "seconds": seconds}
    return {**facts, **errors(result.model, chosen(files[1], N_TEST))}


def table(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Markdown: a line for each molecule, number of frames and of steps that both ways were measured for."""
    yield "| molecule | frames | steps | from nothing, RMSE (MAE) | from organic, RMSE (MAE) | ratio | MACE, MAE |"
    yield "|---|---|---|---|---|---|---|"
    by = {(each["frames"], each["steps"], each["molecule"], each["way"]): each for each in results}
    for count, steps in sorted({key[:2] for key in by}):
        for molecule in MOLECULES:
            if all((count, steps, molecule, way) in by for way in WAYS):
                nothing, tuned = (by[count, steps, molecule, way] for way in WAYS)
                published = PUBLISHED.get((molecule, count), "")
                both = " | ".join(f"{each['rmse']:.1f} ({each['mae']:.1f})" for each in (nothing, tuned))
                ratio = tuned["rmse"] / nothing["rmse"]
                yield f"| {molecule} | {count} | {steps} | {both} | {ratio:.2f} | {published} |"


def main() -> None:
    """Train what is not in the results, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, nargs="+", default=[50])
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--only", nargs="+", default=list(MOLECULES), choices=MOLECULES)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    for count in options.frames:
        for molecule in options.only:
            for way in options.ways:
                results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
                done = {(one["molecule"], one["frames"], one["steps"], one["way"]) for one in results}
                if (molecule, count, options.steps, way) not in done:
                    folder = options.folder.resolve()
                    results.append(measured(options.data, folder, molecule, count, options.steps, way))
                    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print("\n".join(table(json.loads(RESULTS.read_text()))))


if __name__ == "__main__":
    main()
