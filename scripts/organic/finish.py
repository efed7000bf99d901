"""Make the file of the model "organic" from its training run: calibrated, with errors on molecules it never saw.

    python scripts/organic/finish.py FOLDER/run/best.carten FOLDER/test.extxyz

Every other batch of the test structures gives the scales of the uncertainties, the rest the errors; these go into the
header of the file, which `carten info organic` prints, and with more detail into scripts/organic/errors.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms

from carten.data.labels import Frame, Label, frames_from
from carten.pretrained import FOLDER
from carten.properties.io import header
from carten.uncertainty import load_ensemble, save_ensemble
from carten.workflows.calibrate import calibrate
from carten.workflows.evaluate import Evaluation, evaluate

ERRORS = Path(__file__).with_name("errors.json")
OUTPUT = FOLDER / "organic.carten"
ABOUT = {
    "reference": "GFN2-xTB (tblite): as good as this method, and no better",
    "made for": "neutral molecules with closed shells, their dimers and drops; dynamics, relaxation, fine-tuning",
    "not for": "ions, radicals, bonds that break, other elements, crystals and surfaces, interactions beyond 10 Å",
    "more": "docs/organic.md",
}


def halves(path: Path) -> tuple[list[Atoms], list[Atoms]]:
    """Structures for calibration, and those for errors: batches of even and of odd rank."""
    frames = list(ase.io.iread(path, ":"))
    ranks = {number: rank for rank, number in enumerate(sorted({atoms.info["batch"] for atoms in frames}))}
    parts: tuple[list[Atoms], list[Atoms]] = ([], [])
    for atoms in frames:
        parts[ranks[atoms.info["batch"]] % 2].append(atoms)
    return parts


def labelled(structures: list[Atoms], rows: Mapping[str, Any]) -> list[Frame]:
    """Structures with energies and forces."""
    named = [(f"structure {k}", atoms) for k, atoms in enumerate(structures)]
    return frames_from(named, [Label(rows[name], name) for name in ("energy", "forces")], [])


def figures(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Errors in words, in all and by kind of structure."""
    every = {"errors": evaluation.comparisons}
    for kind, comparisons in (every | evaluation.by_group()).items():
        energy, forces = comparisons["energy"].per_atom(), comparisons["forces"].total()
        if energy is not None:
            forces_text = f"forces MAE {forces.mae:.3g}, RMSE {forces.rmse:.3g} meV/Å"
            yield kind, f"energy MAE {energy.mae:.3g} meV/atom, {forces_text}"


def plain(facts: Any) -> Any:
    """Facts without the folders of the machine that they were found on."""
    if isinstance(facts, dict):
        return {key: plain(value) for key, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [plain(value) for value in facts]
    return Path(facts).name if isinstance(facts, str) and facts.startswith("/") else facts


def main() -> None:
    """Calibrate, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    ensemble = load_ensemble(options.model)
    held_out, unseen = halves(options.test)
    ensemble = calibrate(ensemble, labelled(held_out, ensemble.properties)).ensemble
    groups = [atoms.info["config_type"] for atoms in unseen]
    evaluation = evaluate(ensemble, labelled(unseen, ensemble.properties), groups=groups)
    provenance = plain(header(options.model)["provenance"])
    provenance["card"] = ABOUT | dict(figures(evaluation))
    save_ensemble(options.output, ensemble, [provenance], overwrite=True)
    summary = evaluation.summary()
    del summary["seconds"]
    ERRORS.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    for name, text in provenance["card"].items():
        print(f"{name:<12}{text}")


if __name__ == "__main__":
    main()
