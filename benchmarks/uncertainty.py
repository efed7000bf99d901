"""Three kinds of uncertainty at a temperature that training has not seen, and their pictures.

    python -m benchmarks.uncertainty FOLDER

Ethanol (GFN2-xTB, shipped with carten): training at 300 K; calibration at 1000 K, and a test on other trajectories at
1000 K. Prints a table, draws docs/images/uncertainty_forces.svg (of the committee) and uncertainty_coverage.svg. Runs
that are in the folder already are not done again.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import ase.io
from rich.console import Console

from carten import datasets
from carten.data.labels import Frame, Label, frames_from
from carten.drawing import LIGHT, Drawing
from carten.properties.io import load
from carten.properties.spec import property_table
from carten.report.uncertainty import draw_against_uncertainty, draw_coverage
from carten.train.config import Config
from carten.train.files import BEST
from carten.train.run import train
from carten.uncertainty import Ensemble, load_ensemble
from carten.uncertainty.files import join
from carten.workflows.calibrate import calibrate, with_posterior
from carten.workflows.comparison import Comparison
from carten.workflows.evaluate import evaluate

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
MEMBERS, TRAINING, CALIBRATION, DRAWS = 4, 200, 100, 16
COLD, HOT = 300, 1000
MODEL = {"cutoff": 4.5, "n_channels": 12, "l_max_edges": 2, "l_max_features": 1}
EPOCHS = 20


def frames_at(name: str, temperature: int, count: int) -> list[Frame]:
    """Frames of a shipped data set at a temperature, evenly over its trajectories."""
    frames = [atoms for atoms in ase.io.read(datasets.path(name), ":") if atoms.info.get("temperature") == temperature]
    chosen = frames[:: max(1, len(frames) // count)][:count]
    labels = [Label(property_table()[name], name) for name in ("energy", "forces")]
    return frames_from([(f"frame {number}", atoms) for number, atoms in enumerate(chosen)], labels)


def trained(folder: Path, name: str, seed: int, **model: int) -> Path:
    """A model trained at the low temperature."""
    path = folder / name / BEST
    if not path.exists():
        frames = [a for a in ase.io.read(datasets.path("ethanol_xtb_train"), ":") if a.info.get("temperature") == COLD]
        folder.mkdir(parents=True, exist_ok=True)
        ase.io.write(folder / "train.extxyz", frames[:: len(frames) // TRAINING][:TRAINING])
        document = {
            "data": {"train": "train.extxyz", "validation": 20, "batch": {"structures": 10}},
            "properties": {"energy": {"weight": 40.0}, "forces": {}},
            "model": {**MODEL, **model},
            "training": {"epochs": EPOCHS, "validate_every": 10, "ema": 0.98},
            "seed": seed,
            "output": name,
        }
        train(Config.parse(document, folder), console=Console(quiet=True))
    return path


def kinds(folder: Path, held_out: list[Frame]) -> Mapping[str, Ensemble]:
    """The three kinds, before calibration."""
    members = [trained(folder, f"member_{seed}", seed) for seed in range(MEMBERS)]
    committee = join(members, folder / "committee.carten", overwrite=True)
    posterior = with_posterior(load(members[0]), frames_at("ethanol_xtb_train", COLD, TRAINING), held_out, DRAWS)
    readouts = load_ensemble(trained(folder, "readouts", 0, n_members=MEMBERS))
    return {
        f"committee of {MEMBERS}": committee,
        f"posterior, {DRAWS} draws": posterior,
        f"{MEMBERS} readouts": readouts,
    }


def compared(name: str, ensemble: Ensemble, held_out: list[Frame], test: list[Frame]) -> Comparison:
    """Forces of the test after calibration; a line of the table is printed."""
    calibration = calibrate(ensemble, held_out)
    comparison = evaluate(calibration.ensemble, test, ["forces"]).comparisons["forces"]
    quality, scale = comparison.quality, calibration.ensemble.uncertainty.scales["forces"]
    if quality is None:
        raise ValueError(f"{name} gives no uncertainty of forces")
    inside = f"{100 * quality.coverage:.1f} %"
    print(f"| {name} | {scale:.2f} | {quality.rmse:.0f} | {quality.spearman:.2f} | {inside} |", flush=True)
    return comparison


def main() -> None:
    """Train what is missing, print the table, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, default=IMAGES, help="of the pictures")
    arguments = parser.parse_args()
    held_out = frames_at("ethanol_xtb_train", HOT, CALIBRATION)
    test = frames_at("ethanol_xtb_test", HOT, 100)
    ensembles = kinds(arguments.folder, held_out)
    print(f"| forces at {HOT} K | scale | RMSE, meV/Å | rank correlation | within intervals of 90 % |")
    print("|---|---|---|---|---|")
    comparisons = {name: compared(name, ensemble, held_out, test) for name, ensemble in ensembles.items()}
    first = next(iter(comparisons))
    with Drawing(palette=LIGHT) as drawing:
        draw_against_uncertainty(drawing, {first: comparisons[first]})
        drawing.save(arguments.output / "uncertainty_forces.svg")
    with Drawing(palette=LIGHT) as drawing:
        draw_coverage(drawing, {name: each.quality for name, each in comparisons.items() if each.quality is not None})
        drawing.save(arguments.output / "uncertainty_coverage.svg")


if __name__ == "__main__":
    main()
