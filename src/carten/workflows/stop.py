"""When dynamics stops before its last step: a property crosses a value, or atoms are closer than any that were seen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase.data import chemical_symbols

from carten.errors import ConfigError
from carten.properties.routes import Property
from carten.workflows.limits import close_contacts

CONTACTS = "contacts"
"""The criterion of contacts that are shorter than in the training data."""
_FORM = re.compile(r"\s*([A-Za-z_]\w*)\s*([<>])\s*([-+0-9.eE]+)\s*")


@dataclass(frozen=True)
class Crossing:
    """A property of the model above or below a value; of those of atoms one is enough, of tensors their norm counts.

    Args:
        name: of the property.
        sign: ``>`` or ``<``.
        value: in the unit of the property.
        unit: of the property.
    """

    name: str
    sign: str
    value: float
    unit: str

    def reason(self, atoms: ase.Atoms) -> str | None:
        """Why to stop, in words, if there is a reason."""
        values = np.asarray(atoms.calc.get_property(self.name, atoms), dtype=np.float64)
        of_atoms = values.ndim > 0 and len(values) == len(atoms)
        values = values.reshape(len(atoms) if of_atoms else 1, -1)
        sizes = values[:, 0] if values.shape[1] == 1 else np.linalg.norm(values, axis=1)
        place = int(sizes.argmax() if self.sign == ">" else sizes.argmin())
        size = float(sizes[place])
        if np.isfinite(size) and not (size > self.value if self.sign == ">" else size < self.value):
            return None
        where = f" of atom {place} ({chemical_symbols[atoms.numbers[place]]})" if of_atoms else ""
        side = "above" if self.sign == ">" else "below"
        return f"{self.name}{where} is {size:.4g} {self.unit}, {side} {self.value:g}"


@dataclass(frozen=True)
class ShortContacts:
    """Atoms closer than in the training data.

    Args:
        trained: shortest distance in Å by pair of elements.
        cutoff: Å, up to which the training data were searched.
    """

    trained: Mapping[str, float]
    cutoff: float

    def reason(self, atoms: ase.Atoms) -> str | None:
        """Why to stop, in words, if there is a reason."""
        sentences = close_contacts(atoms, self.trained, self.cutoff)
        return sentences[0] if sentences else None


Criterion = Crossing | ShortContacts


def parse_criterion(
    text: str, properties: Mapping[str, Property], trained: Mapping[str, float], cutoff: float, key: str = "--stop-at"
) -> Criterion:
    """A criterion from ``PROPERTY>VALUE``, ``PROPERTY<VALUE`` or ``contacts``.

    Args:
        text: as written by the user.
        properties: of the model, by name.
        trained: shortest distance in Å in the training data by pair of elements; empty where that is not known.
        cutoff: of the model, Å.
        key: what messages call it.

    Raises:
        ConfigError: it has another form, or the model does not give the property.
    """
    if text.strip() == CONTACTS:
        if not trained:
            raise ConfigError(
                f"{key} contacts: the model file does not say how close atoms were in its training data: models "
                "trained with this version of carten do"
            )
        return ShortContacts(trained, cutoff)
    form = _FORM.fullmatch(text)
    try:
        value = float(form[3]) if form else float("nan")
    except ValueError:
        value = float("nan")
    if form is None or not np.isfinite(value):
        raise ConfigError(
            f"{key}: expected PROPERTY>VALUE, PROPERTY<VALUE or contacts, found {text!r}; for example "
            "'forces_uncertainty>0.3' (in quotes), in eV/Å"
        )
    name = form[1]
    if name not in properties:
        raise ConfigError(f"{key}: the model does not give {name}; {_alternative(name, properties)}")
    if properties[name].scope == "pair":
        raise ConfigError(f"{key}: {name} is of pairs of atoms; expected a property of atoms or of the structure")
    return Crossing(name, form[2], value, properties[name].unit)


def _alternative(name: str, properties: Sequence[str] | Mapping[str, Property]) -> str:
    if name.endswith("_uncertainty") and not any(other.endswith("_uncertainty") for other in properties):
        return (
            "it has no uncertainties: train it with model.n_members above 1, give it a posterior by carten calibrate, "
            "or join several models by carten committee"
        )
    return f"it gives {', '.join(properties)}"
