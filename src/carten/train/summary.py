"""What a run says before it trains."""

from __future__ import annotations

from collections.abc import Mapping

from ase.data import chemical_symbols

from carten.properties.planning import ENERGIES
from carten.properties.potential import Potential
from carten.train.config import Config
from carten.train.sets import Sets
from carten.train.start import start_lines

CHANGED: Mapping[str, str] = {
    "tace": " (products mix channels, as its authors have them; the preset that was called tace before is carten)"
}
"""What to say of presets that are no longer what they were."""


def summary(config: Config, sets: Sets, model: Potential, source: Potential | None) -> list[str]:
    """Lines on the data and the model, and on what differs from the one that it starts from."""
    energies = "; ".join(
        ", ".join(f"{chemical_symbols[z]} {energy:.3f}" for z, energy in level) for level in energies_of_atoms(model)
    )
    preset = config.model.preset + CHANGED.get(config.model.preset, "")
    return [
        f"training on {len(sets.train)} structures, validation on {len(sets.validation)}"
        + (f", test on {len(sets.test)}" if sets.test is not None else ""),
        f"elements {' '.join(chemical_symbols[z] for z in model.elements)}"
        + (f"; reference energies (eV) {energies}" if energies else ""),
        *start_lines(config, model, source),
        *([f"terms {', '.join(term.kind for term in config.terms)}"] if config.terms else []),
        f"preset {preset}, {sum(p.numel() for p in model.parameters()):,} parameters, "
        f"{model.neighbours:.1f} neighbours per atom within {model.cutoff:g} Å, {config.dtype}",
    ]


def energies_of_atoms(model: Potential) -> list[list[tuple[int, float]]]:
    """Elements and their E0 in eV for each level of theory that has any."""
    if ENERGIES not in model.heads:
        return []
    levels = model.heads[ENERGIES].get_buffer("reference").view(-1, len(model.elements))
    return [list(zip(model.elements, level.tolist(), strict=True)) for level in levels if level.any()]
