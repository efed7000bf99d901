"""Charges that interact: latent ones that the energy alone determines, and those the model predicts."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from carten.physics import equilibration, ewald, induction, polarization
from carten.physics.equilibration import ChargeInteraction
from carten.physics.ewald import Ewald
from carten.physics.names import ELECTRONEGATIVITIES, FIELD, HARDNESSES, POLARIZABILITIES
from carten.physics.pairs import Multipoles
from carten.physics.term import EnergyTerm, Host, TermConfig, TermSource, View

Width = Annotated[float, Field(gt=0.0)]
Accuracy = Annotated[float, Field(ge=1e-12, le=0.1)]
Method = Literal["auto", "explicit", "mesh"]


class ElectrostaticsConfig(TermConfig):
    """What all charges that interact have in common."""

    sigma: Width = 1.0
    """Å, width of the Gaussians: closer than about 3 sigma the interaction is weaker than that of points."""
    permittivity: Annotated[float, Field(gt=0.0)] = 1.0
    """By which the interaction is divided; with that of the electrons latent charges are those that move in a field."""
    accuracy: Accuracy = 1e-4
    """Relative error of long-range energies and forces."""
    method: Method = "auto"
    """Explicit sums over reciprocal vectors, a particle mesh, or for each structure what is faster."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """A field, in which charges have an energy."""
        return (FIELD,)

    def _summation(self, edges: float) -> Ewald:
        return Ewald(self.sigma, self.accuracy, edges, self.method)

    def _coupled(self, host: Host) -> bool:
        return FIELD in host.inputs.intersection(self.inputs)


class LesConfig(ElectrostaticsConfig):
    """Latent Ewald summation: charges, optionally dipoles and quadrupoles, that no label but the energy determines.

    Source: B. Cheng, npj Comput. Mater. 11, 80 (2025).
    """

    kind: Literal["les"] = "les"
    channels: Annotated[int, Field(ge=1, le=64)] = 1
    """Kinds of charges; each interacts with its own kind."""
    dipoles: bool = False
    quadrupoles: bool = False
    induced: bool = False
    """Whether fields induce dipoles, of polarizabilities that are read from the features; without ``dipoles`` all of
    the dipoles are induced."""
    neutral: bool = False
    """Whether the charges of a structure add up to zero; else a uniform background neutralises cells."""

    @model_validator(mode="after")
    def _check(self) -> LesConfig:
        if self.quadrupoles and not self.dipoles:
            raise ValueError("latent quadrupoles go with latent dipoles: set dipoles: true")
        if self.induced and self.channels > 1:
            raise ValueError("dipoles are induced by charges that see each other: leave out channels, or induced")
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """A field, unless there are charges that do not see each other."""
        return super().inputs if self.channels == 1 else ()

    @property
    def sources(self) -> tuple[TermSource, ...]:
        """Latent charges, and dipoles and quadrupoles where there are."""
        options: dict[str, float | str] = {
            "sigma": self.sigma,
            "permittivity": self.permittivity,
            "accuracy": self.accuracy,
            "permanent": "permanent_dipoles" if self.dipoles else "",
            "quadrupoles": "latent_quadrupoles" if self.quadrupoles else "",
        }
        return tuple(
            TermSource(name, routes, like, options if "induced" in routes else {})
            for like, routes in self._rows()
            for name in self._names(like)
        )

    def _rows(self) -> list[tuple[str, tuple[str, ...]]]:
        charges = ("balanced",) if self.neutral else ("readout", "balanced")
        rows: list[tuple[str, tuple[str, ...]]] = [("latent_charges", charges)]
        if self.dipoles or self.induced:
            rows.append(("latent_dipoles", ("induced",) if self.induced else ("readout",)))
        return [*rows, ("latent_quadrupoles", ("readout",))] if self.quadrupoles else rows

    def _names(self, like: str) -> tuple[str, ...]:
        return (like,) if self.channels == 1 else tuple(f"{like}_{k + 1}" for k in range(self.channels))

    def build(self, host: Host) -> Electrostatics:
        """The term as part of a model."""
        names = [self._names(like) for like, _ in self._rows()]
        kind = InducedDipoles if self.induced else Electrostatics
        return kind(self._summation(edges=0.0), names, self.permittivity, self._coupled(host))


class ChargesConfig(ElectrostaticsConfig):
    """The charges the model predicts interact, with each other and nothing else.

    They add up to the total charge of the structure: ``properties.charges`` by the route balanced, equalised or
    equilibrated. Those that equilibrate do so in the same interaction, and what it costs an atom to have its charge is
    part of the energy: it is the least that charges can have.
    """

    kind: Literal["charges"] = "charges"

    @property
    def sources(self) -> tuple[TermSource, ...]:
        """The charges, which equilibrate in the interaction that they have in the energy."""
        options = {"sigma": self.sigma, "permittivity": self.permittivity, "accuracy": self.accuracy}
        return (TermSource("charges", ("balanced", "equalised", "equilibrated"), options=options),)

    def build(self, host: Host) -> Electrostatics:
        """The term as part of a model."""
        kind = EquilibratedCharges if host.routes["charges"] == "equilibrated" else Electrostatics
        return kind(self._summation(edges=host.network.cutoff), [("charges",)], self.permittivity, self._coupled(host))


class Electrostatics(EnergyTerm):
    """Energy of multipoles of atoms, see :mod:`carten.physics.ewald`, optionally in an electric field.

    Args:
        summation: smearing and accuracy.
        names: the properties that are charges, dipoles and quadrupoles, one of each for every kind.
        permittivity: by which energies are divided.
        coupled: whether the input ``electric_field`` is for them.
    """

    def __init__(self, summation: Ewald, names: list[tuple[str, ...]], permittivity: float, coupled: bool) -> None:
        super().__init__()
        self.summation = summation
        self.names = names
        self.permittivity = permittivity
        self.coupled = coupled

    def forward(self, view: View) -> Tensor:
        """(N,) eV."""
        parts = [torch.stack([view.value(name) for name in group], dim=1) for group in self.names]
        multipoles = Multipoles(*parts)
        energies = ewald.ewald_energies(multipoles, view.graph, view.vectors, self.summation) / self.permittivity
        if not self.coupled or not bool(view.graph.inputs[FIELD].any()):
            return energies
        dipoles = None if multipoles.dipoles is None else multipoles.dipoles[:, 0]
        return energies + polarization.field_energies(multipoles.charges[:, 0], dipoles, view)


class EquilibratedCharges(Electrostatics):
    """The energy that charges have minimised, see :mod:`carten.physics.equilibration`."""

    def forward(self, view: View) -> Tensor:
        """(N,) eV."""
        charges, chi, eta = (view.value(name) for name in ("charges", ELECTRONEGATIVITIES, HARDNESSES))
        interaction = ChargeInteraction(self.summation, self.permittivity)
        return super().forward(view) + equilibration.charging_energies(charges, chi, eta, interaction)


class InducedDipoles(Electrostatics):
    """The energy that induced dipoles have minimised, see :mod:`carten.physics.induction`."""

    def forward(self, view: View) -> Tensor:
        """(N,) eV."""
        interaction = ChargeInteraction(self.summation, self.permittivity)
        induced = view.value("latent_dipoles") - view.values.get("permanent_dipoles", 0.0)
        cost = induction.polarizing_energies(induced, view.value(POLARIZABILITIES), interaction)
        return super().forward(view) + cost
