"""How ensembles are evaluated for a calculator: by libraries, and what these do not have by what members predict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase
import numpy as np

from carten.deploy import Deployed
from carten.deploy.results import Row
from carten.interfaces.paths import ModelPaths
from carten.math.arrays import Array, Floats
from carten.properties.peek import has_uncertainty

if TYPE_CHECKING:
    import torch

    from carten.model.conditions import Input
    from carten.properties.potential import Potential
    from carten.uncertainty.ensemble import Ensemble


def open_paths(
    model: str | Path | Potential | Deployed | Ensemble,
    device: torch.device | str | None,
    dtype: str | None,
    backend: str,
    options: tuple[float, int | None],
) -> ModelPaths | EnsemblePaths:
    """What evaluates a model; see :class:`carten.interfaces.paths.ModelPaths` for the arguments."""
    if isinstance(model, str | Path) and has_uncertainty(model):
        from carten.uncertainty import load_ensemble

        ensemble = load_ensemble(model, backend=backend)
        members: list[str | Path | Potential] = [*ensemble.models] if len(ensemble.models) > 1 else [model]
        return EnsemblePaths(ensemble, [ModelPaths(each, device, dtype, backend, options) for each in members])
    if not isinstance(model, str | Path | Deployed):
        from carten.uncertainty import Ensemble

        if isinstance(model, Ensemble):
            return EnsemblePaths(model, [ModelPaths(each, device, dtype, backend, options) for each in model.models])
    return ModelPaths(model, device, dtype, backend, options)


class EnsemblePaths:
    """An ensemble, evaluated as :class:`carten.interfaces.paths.ModelPaths` evaluates a model.

    Args:
        ensemble: stays as it is.
        members: paths of its models.
    """

    def __init__(self, ensemble: Ensemble, members: Sequence[ModelPaths]) -> None:
        self.members = tuple(members)
        self.ensemble = type(ensemble)([member.model for member in members], ensemble.uncertainty)
        first = self.members[0]
        self.cutoff, self.elements = first.cutoff, first.elements
        uncertain = [row for name, row in ensemble.properties.items() if name not in first.rows]
        self.rows = first.rows | {
            row.name: Row(row.name, row.scope, row.rank, row.ase, row.per_volume, "") for row in uncertain
        }

    @property
    def path(self) -> str:
        """``"library"`` or ``"torch"``: what evaluated predictions last, or will first."""
        return self.members[0].path

    @property
    def library(self) -> None:
        """Members have one each."""
        return None

    def facts(self) -> Iterator[tuple[str, str]]:
        """What the models are, line by line."""
        return self.ensemble.facts()

    @property
    def inputs(self) -> Mapping[str, Input]:
        """The inputs of the model by name."""
        return self.members[0].inputs

    @property
    def model(self) -> Potential:
        """The exact model; of a committee the first one."""
        return self.members[0].model

    @property
    def models(self) -> tuple[Potential, ...]:
        """The exact models; predictions are their mean."""
        return tuple(member.model for member in self.members)

    def along_with(self, names: Sequence[str]) -> list[str]:
        """Uncertainties that come with properties at no cost: those of a committee."""
        if len(self.members) == 1:
            return []
        return [f"{name}_uncertainty" for name in names if f"{name}_uncertainty" in self.rows]

    def evaluate(self, atoms: ase.Atoms, names: Sequence[str], input_values: Mapping[str, Array]) -> dict[str, Floats]:
        """Properties and uncertainties by name, (1, 3, ..), (N, 3, ..) or (N * N, 3, ..)."""
        import torch

        from carten.properties.members import UNCERTAIN
        from carten.uncertainty.ensemble import divided, spread

        if len(self.members) > 1:
            values, spreads = divided(names)
            evaluated = [*dict.fromkeys((*values, *spreads))]
            each = [member.evaluate(atoms, evaluated, input_values) for member in self.members]
            stacked = {name: np.stack([one[name] for one in each]) for name in evaluated}
            results = {name: stacked[name].mean(axis=0) for name in values}
            for name in spreads:
                deviation = spread(torch.from_numpy(stacked[name])).numpy()
                results[f"{name}{UNCERTAIN}"] = self.ensemble.scale(name) * deviation
            return results
        compiled = [name for name in names if name in self.members[0].rows]
        _, spreads = divided([name for name in names if name not in compiled])
        results = self.members[0].evaluate(atoms, compiled, input_values) if compiled else {}
        if spreads:
            with torch.inference_mode(False), torch.enable_grad():
                graph = self.members[0].graph(atoms, input_values, self.ensemble.element_of.device)
                uncertain = self.ensemble(graph, [f"{name}{UNCERTAIN}" for name in spreads])
            results |= {name: value.detach().to("cpu", torch.float64).numpy() for name, value in uncertain.items()}
        return results

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__
