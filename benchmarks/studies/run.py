"""Train and evaluate studies: ``python -m benchmarks.studies.run NAME --data FOLDER --minutes M``."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import ase.io

from benchmarks.studies.errors import record
from benchmarks.studies.frames import PREPARE
from benchmarks.studies.study import HERE, Study, merged, names, read_study
from benchmarks.studies.table import write_table
from carten.cli.options import trained_labels
from carten.data.labels import Frame, read_frames
from carten.properties.io import header, load
from carten.properties.potential import Potential
from carten.train.config import Config
from carten.train.run import TrainResult, train
from carten.workflows.evaluate import evaluate

RESULTS = HERE / "results.json"


def main() -> None:
    """Train the variants of a study one after the other, and evaluate them on held-out frames."""
    options = _parser().parse_args()
    study = read_study(options.name)
    folder = options.work or Path(tempfile.mkdtemp(prefix=f"{options.name}-"))
    folder.mkdir(parents=True, exist_ok=True)
    for part, frames in PREPARE[study.prepare](study, options.data).items():
        ase.io.write(folder / f"{part}.extxyz", frames)
    for variant in options.variants or study.variants:
        found = run(study, variant, folder, options.minutes)
        keep(options.output, options.name, variant, found)
        if options.output == RESULTS:
            write_table(RESULTS)


def run(study: Study, variant: str, folder: Path, minutes: float | None) -> dict[str, Any]:
    """One training run and the errors of its best model on the test frames."""
    configured = {
        "data": {"train": "train.extxyz", "validation": "validation.extxyz"},
        "training": {"max_minutes": minutes},
        "output": f"run-{variant or 'only'}".replace(" ", "-"),
    }
    document = merged(merged(configured, study.config), study.variants[variant])
    config = Config.parse(document, folder, f"study {study.title}")
    started = time.process_time()
    result = train(config, clock=time.process_time)
    spent = (time.process_time() - started) / 60.0
    model = load(result.model)
    head = header(result.model)
    labels = list(trained_labels(head, model.properties).values())
    inputs = list(trained_labels(head, model.inputs, section="inputs").values())
    training, test = (read_frames(paths, labels, inputs) for paths in (config.data.train, [folder / "test.extxyz"]))
    return {
        **_facts(config, model, result),
        "cpu_minutes": round(spent, 1),
        "train": len(training),
        "validation": len(ase.io.read(folder / "validation.extxyz", ":")),
        "test": len(test),
        "properties": _errors(study, model, training, test),
    }


def _facts(config: Config, model: Potential, result: TrainResult) -> dict[str, Any]:
    network = config.model
    return {
        "steps": result.steps,
        "epochs": result.epochs,
        "parameters": sum(p.numel() for p in model.parameters()),
        "network": f"{network.n_layers} × {network.n_channels}, L {network.l_max_edges}/{network.l_max_features}, "
        f"ν {network.correlation_order}, {network.cutoff:g} Å",
    }


def _errors(study: Study, model: Potential, training: list[Frame], test: list[Frame]) -> dict[str, Any]:
    shown = study.shown or model.requested
    labelled = {name for frame in test for name in frame.labels}
    there = [name for name in shown if name in model.properties and name in labelled]
    found = evaluate(model, test, there).comparisons
    units = {name: study.units.get(name, found[name].row.report_unit) for name in there}
    return {name: record(found[name], training, test, units[name]) for name in there}


def keep(path: Path, name: str, variant: str, found: dict[str, Any]) -> None:
    """Add the errors of a run to the file of results."""
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    results.setdefault(name, {})[variant] = found
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.studies.run", description=main.__doc__)
    add = parser.add_argument
    add("name", choices=names(), metavar="NAME", help=", ".join(names()))
    add("--data", type=Path, required=True, help="folder of the published files")
    add("--minutes", type=float, help="of the processor, after which the training of each variant ends")
    add("--variants", nargs="+", help="which of them (all)")
    add("--work", type=Path, help="folder for splits and runs (a temporary one)")
    add("--output", type=Path, default=RESULTS, help="where the errors go (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
