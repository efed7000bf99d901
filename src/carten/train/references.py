"""Reference energies of a run: given, of isolated atoms, or fitted, for each level of theory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from ase.data import atomic_numbers, chemical_symbols

from carten.data.labels import Frame
from carten.data.statistics import ReferenceEnergies, elements, reference_energies
from carten.errors import ConfigError
from carten.model.conditions import Fidelity, Input
from carten.train.baseline import by_level
from carten.train.config import Config


def find_references(config: Config, frames: Sequence[Frame], inputs: Sequence[Input]) -> tuple[ReferenceEnergies, ...]:
    """E0 of each level of theory; empty where there are to be none.

    Args:
        config: of the run.
        frames: of the training files, with energies.
        inputs: of the model; fidelity holds the level.

    Raises:
        ConfigError: given energies do not fit the elements.
        DataError: an isolated atom is asked for and missing, or one element has two energies.
    """
    asked = config.reference_energies
    level = next((row for row in inputs if isinstance(row.embed, Fidelity)), None)
    levels = [""] if level is None or not isinstance(level.embed, Fidelity) else level.embed.values
    if isinstance(asked, Mapping):
        return (ReferenceEnergies(_given(asked, elements(frames)), {}),) * len(levels)
    if asked == "none":
        return ()
    parts = by_level(frames, None if level is None else level.name, len(levels))
    return tuple(_found(part, asked, config.model.cutoff) for part in parts)


def undetermined(references: Iterable[ReferenceEnergies]) -> list[str]:
    """Warning for compositions that do not determine the reference energies."""
    numbers = sorted({number for level in references for number in level.undetermined})
    if not numbers:
        return []
    names = ", ".join(chemical_symbols[number] for number in numbers)
    return [
        f"reference energies of {names} are not determined by the compositions in data.train, those above are one "
        "choice of many: forces and energies at these compositions do not depend on it, energies of isolated atoms, "
        "reactions and other compositions do. Add isolated atoms to data.train, or give reference_energies"
    ]


def _found(
    frames: Sequence[Frame], source: Literal["auto", "isolated", "fitted"], cutoff: float
) -> ReferenceEnergies:
    """E0 of the elements of one level; none where no structure of the level has an energy."""
    if not any("energy" in frame.labels for frame in frames):
        return ReferenceEnergies({}, {})
    return reference_energies(frames, source, cutoff)


def _given(energies: Mapping[str, float], present: Sequence[int]) -> Mapping[int, float]:
    if unknown := [symbol for symbol in energies if symbol not in atomic_numbers]:
        raise ConfigError(f"reference_energies.{unknown[0]}: expected the symbol of an element, as in {{H: -13.6}}")
    if missing := [chemical_symbols[number] for number in present if chemical_symbols[number] not in energies]:
        raise ConfigError(f"reference_energies: no energy for {', '.join(missing)}, which the data contain")
    return {atomic_numbers[symbol]: energy for symbol, energy in energies.items()}
