"""Ensembles: several predictions of the same, whose spread says how uncertain they are."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.model.conditions import Input
from carten.model.graph import Graph
from carten.properties.facts import model_facts
from carten.properties.members import UNCERTAIN, Uncertainty
from carten.properties.planning import ENERGIES, with_sources
from carten.properties.potential import Potential
from carten.properties.routes import Property
from carten.text import html_table


class Ensemble:
    """A committee of models, or one model with several readouts or with a posterior of its last layer.

    Its properties are those of the models, and ``NAME_uncertainty`` of each: one number for each structure, atom or
    pair, in the unit of the property. It is the calibrated standard deviation of one component, the root mean square
    over the components of a tensor, so that it does not change under rotations.

    Args:
        models: of one design; several are a committee.
        uncertainty: calibration, and posterior; of a single model, its own by default.

    Raises:
        ModelError: the models are not alike, or there is a single one that has no members.
    """

    def __init__(self, models: Sequence[Potential], uncertainty: Uncertainty | None = None) -> None:
        self.models = tuple(models)
        if uncertainty is not None and len(models) == 1:
            self.models = (_with(models[0], uncertainty),)
        self.model = self.models[0]
        self.uncertainty = uncertainty or self.model.uncertainty or Uncertainty()
        if len(models) == 1 and self.model.n_members == 1:
            raise ModelError(
                "the model has no uncertainty: train it with model.n_members above 1, give it a posterior by carten "
                "calibrate, or join several models by carten committee"
            )
        if len(models) > 1:
            require_alike(self.models)
        else:
            self.model.network.choose_tables()  # good enough for what members differ by

    @property
    def kind(self) -> str:
        """``committee``, ``readouts`` or ``posterior``."""
        if len(self.models) > 1:
            return "committee"
        return "readouts" if self.model.config.n_members > 1 else "posterior"

    @property
    def n_members(self) -> int:
        """Number of predictions."""
        return len(self.models) if len(self.models) > 1 else self.model.n_members

    @property
    def description(self) -> str:
        """What it consists of, and how its uncertainties are scaled."""
        kinds = {"committee": "models", "readouts": "readouts on one network", "posterior": "draws from a posterior"}
        text = f"{self.n_members} {kinds[self.kind]}"
        if not self.uncertainty.scales:
            return f"{text}, not calibrated (carten calibrate)"
        scales = ", ".join(f"{name} {scale:.3g}" for name, scale in self.uncertainty.scales.items())
        return f"{text}; calibrated, scales: {scales}"

    def facts(self) -> Iterator[tuple[str, str]]:
        """What it is, line by line."""
        yield from model_facts(self.model)
        yield "uncertainty", self.description

    def _repr_html_(self) -> str:
        return html_table(self.facts())

    @cached_property
    def properties(self) -> Mapping[str, Property]:
        """All that the models predict, and their uncertainties, by name."""
        rows = self.model.properties
        return {**rows, **{f"{name}{UNCERTAIN}": _row(row) for name, row in rows.items() if self._varies(name)}}

    @property
    def requested(self) -> tuple[str, ...]:
        """Names of the properties that the models were made for, and of their uncertainties."""
        names = [f"{name}{UNCERTAIN}" for name in self.model.requested if self._varies(name)]
        return (*self.model.requested, *names)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers the models know, ascending."""
        return self.model.elements

    @property
    def inputs(self) -> Mapping[str, Input]:
        """Inputs besides the atoms, by name."""
        return self.model.inputs

    @property
    def cutoff(self) -> float:
        """Distance up to which atoms interact directly, Å."""
        return self.model.cutoff

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.model.dtype

    @property
    def element_of(self) -> Tensor:
        """Row of each atomic number, on the device of the models."""
        return self.model.element_of

    def to(self, device: torch.device | str) -> Self:
        """Move to a device."""
        for model in self.models:
            model.to(device)
        return self

    def __call__(self, graph: Graph, names: Sequence[str]) -> dict[str, Tensor]:
        """Properties and uncertainties by name, as :meth:`carten.properties.potential.Potential.forward` has them.

        Raises:
            ModelError: for an unknown name, or see there.
        """
        values, spreads = divided(names)
        predicted = self.members(graph, [*dict.fromkeys((*spreads, *(values if len(self.models) > 1 else ())))])
        results = {f"{name}{UNCERTAIN}": self.scale(name) * spread(predicted[name]) for name in spreads}
        results |= self._exact(graph, spreads)
        if len(self.models) > 1:
            results |= {name: predicted[name].mean(dim=0) for name in values}
        elif values:
            results |= self.model(graph, values)
        return {name: results[name] for name in names}

    def members(self, graph: Graph, names: Sequence[str]) -> dict[str, Tensor]:
        """What each member predicts, (members, S, 3, ..) or (members, N, 3, ..)."""
        if not names:
            return {}
        evaluations = (
            [model(graph, names) for model in self.models] if len(self.models) > 1 else self.model.members(graph, names)
        )
        evaluations = list(evaluations)
        return {name: torch.stack([values[name] for values in evaluations]) for name in names}

    def scale(self, name: str) -> float:
        """Factor of the spread of a property, see :meth:`carten.properties.members.Uncertainty.scale`."""
        return self.uncertainty.scale(name, self.model.properties)

    def _varies(self, name: str) -> bool:
        """Whether members differ in a property."""
        return self.kind != "posterior" or ENERGIES in with_sources([name], self.model.properties)

    def _exact(self, graph: Graph, names: Sequence[str]) -> dict[str, Tensor]:
        """Uncertainties of energies by the posterior itself."""
        covariance = self.uncertainty.covariance
        if self.kind != "posterior" or covariance is None or not {"energy", ENERGIES}.intersection(names):
            return {}
        features = self.model.descriptors(graph)
        covariance = covariance.to(features.device)
        sums = features.new_zeros(graph.n_structures, features.shape[1]).index_add(0, graph.structure, features)
        of = {"energy": sums, ENERGIES: features}
        return {
            f"{name}{UNCERTAIN}": self.scale(name) * torch.einsum("ai,ij,aj->a", x, covariance, x).clamp(min=0.0).sqrt()
            for name, x in of.items()
            if name in names
        }


def spread(values: Tensor) -> Tensor:
    """(rows,) from (members, rows, ..): standard deviation, the root mean square over components."""
    return values.var(dim=0, correction=1).flatten(1).mean(dim=1).sqrt() if values.dim() > 2 else values.std(dim=0)


def divided(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of properties, and of those whose uncertainty is wanted."""
    return (
        [name for name in names if not name.endswith(UNCERTAIN)],
        [name.removesuffix(UNCERTAIN) for name in names if name.endswith(UNCERTAIN)],
    )


def _with(model: Potential, uncertainty: Uncertainty) -> Potential:
    """The same model, with the same weights, but for what it knows of its errors."""
    other = copy.copy(model)
    other.uncertainty = uncertainty
    return other


def _row(row: Property) -> Property:
    return replace(row, name=f"{row.name}{UNCERTAIN}", indices="", parity=1, modulo="", total="", ase="", note="")


def require_alike(models: Sequence[Potential], names: Sequence[str] = ()) -> None:
    """Check that models can be members of one committee.

    Args:
        models: in question.
        names: what they are called in messages.

    Raises:
        ModelError: they differ in what they are or predict, or one is an ensemble itself.
    """
    names = names or [f"model {k}" for k in range(len(models))]
    first = models[0]
    for model, name in zip(models, names, strict=True):
        if model.n_members > 1:
            raise ModelError(f"{name} has members itself: a committee is made of plain models")
        aspects = {
            "predicts": (first.requested, model.requested),
            "knows the elements": (first.elements, model.elements),
            "takes the inputs": (tuple(first.inputs.values()), tuple(model.inputs.values())),
            "has the energy terms": (first.term_configs, model.term_configs),
            "has the cutoff": (first.cutoff, model.cutoff),
            "is in": (first.dtype, model.dtype),
        }
        for aspect, (expected, different) in aspects.items():
            if expected != different:
                raise ModelError(
                    f"{name} {aspect} {_shown(different)}, {names[0]} {_shown(expected)}: members of a committee are "
                    "models of the same, trained on the same data with different seeds (carten train --seed)"
                )
        if first.properties != model.properties:
            raise ModelError(f"{name} obtains or defines its properties in another way than {names[0]}")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(getattr(item, "name", getattr(item, "kind", item))) for item in value) or "none"
    return str(value)
