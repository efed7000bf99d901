"""A process that labels structures: one JSON line in for each, one out. What a calculator prints goes to stderr.

A calculator that ends its process takes down this one alone. Run as ``python -m carten.learning.worker``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from io import StringIO
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import iread

from carten.data.extra import restore
from carten.data.structures import is_crystal
from carten.errors import ConfigError
from carten.learning.labellers import Labeller

DEFAULTS = ("energy", "forces", "stress")


def compute(labeller: Labeller, atoms: Atoms, properties: Sequence[str]) -> dict[str, Any]:
    """Labels of a structure as lists, in ASE's units; energies are those that forces are derivatives of.

    Raises:
        ValueError: a label is not finite.
    """
    calculator = labeller.calculator(atoms)
    single = atoms.copy()
    results = {}
    for name in sorted(properties, key=lambda name: name != "forces"):  # which programs compute with the energy
        if name == "stress" and not is_crystal(atoms):
            continue
        consistent = name == "energy" and "free_energy" in labeller.implemented
        value = np.asarray(calculator.get_property("free_energy" if consistent else name, single), dtype=float)
        if not np.isfinite(value).all():
            raise ValueError(f"{name} is not finite")
        results[name] = value.tolist()
    return results


def chosen(labeller: Labeller, properties: Sequence[str] | None) -> list[str]:
    """Names of the properties that will be computed.

    Raises:
        ConfigError: the labeller has not all that were asked for.
    """
    implemented = labeller.implemented
    if properties is None:
        return [name for name in DEFAULTS if name in implemented]
    if absent := [name for name in properties if name not in implemented]:
        raise ConfigError(f"{labeller.name} does not compute {', '.join(absent)}; it has {', '.join(implemented)}")
    return list(properties)


def serve() -> None:
    """Read the labeller, then structures, from stdin."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    request = json.loads(sys.stdin.readline())
    labeller = Labeller(**request["labeller"])
    try:
        names = chosen(labeller, request["properties"])
    except (ValueError, OSError) as error:
        answer({"error": str(error)})
        return
    answer({"properties": names, "level": labeller.level_of_theory})
    for line in sys.stdin:
        (frame,) = iread(StringIO(json.loads(line)), format="extxyz")
        atoms = restore(frame, "structure")
        try:
            answer({"results": compute(labeller, atoms, names)})
        except Exception as error:  # noqa: BLE001  # any program: its failure is the answer, and the rest goes on
            answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    serve()
