"""Models in TorchSim, which moves many systems at once. TorchSim needs Python 3.12 or newer.

>>> model = CartenModel("run/best.carten", device="cuda")
>>> final = ts.optimize(system=structures, model=model, optimizer=ts.Optimizer.fire)
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ase
import numpy.typing as npt
import torch
from torch import Tensor
from torch_sim.models.interface import ModelInterface
from torch_sim.neighbors import torchsim_nl
from torch_sim.state import SimState

from carten.data.structures import read_inputs, require_known
from carten.errors import ModelError
from carten.model.graph import Graph
from carten.properties.io import load
from carten.properties.potential import Potential

NeighbourList = Callable[[Tensor, Tensor, Tensor, float, Tensor], tuple[Tensor, Tensor, Tensor]]
"""From positions, cells, periodic directions, cutoff and systems of atoms to pairs, their systems and shifts."""


class CartenModel(ModelInterface):  # type: ignore[misc]
    """A model for TorchSim, evaluated by torch on all systems of a state in one batch.

    Args:
        model: a ``.carten`` file, or a model; a model is copied.
        device: where it is evaluated; a GPU by default if there is one.
        dtype: ``torch.float32`` or ``torch.float64``; that of the model by default.
        compute_forces: whether forces are wanted, eV/Å.
        compute_stress: whether stress is wanted, eV/Å³; zero for systems that are not periodic along all axes.
        inputs: values of inputs of the model, which hold for all systems, e.g. ``{"total_charge": 1}``.
        neighbour_list: one of ``torch_sim.neighbors``.

    Raises:
        ModelError: the model has no energies, or an input of atoms, or does not know an input.
        DataError: an input is missing.
        ModelFileError: the file is no model.
    """

    def __init__(
        self,
        model: str | Path | Potential,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        compute_forces: bool = True,
        compute_stress: bool = True,
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        neighbour_list: NeighbourList = torchsim_nl,
    ) -> None:
        super().__init__()
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        potential = load(model, dtype=dtype) if isinstance(model, str | Path) else copy.deepcopy(model)
        self.potential = potential.to(device=device, dtype=dtype).freeze()
        if "energy" not in self.potential.properties:
            raise ModelError(f"the model has no energies, it predicts {', '.join(self.potential.requested)}")
        self._device, self._dtype = device, self.potential.dtype
        self._compute_forces, self._compute_stress = compute_forces, compute_stress
        self.neighbour_list = neighbour_list
        self._inputs = self._input_values(inputs or {})

    def _input_values(self, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, Tensor]:
        """Inputs of one structure, and those of atoms that have a default, of one atom, (1, 3, ..)."""
        rows = self.potential.inputs
        if of_atoms := [name for name, row in rows.items() if row.scope == "atom" and row.default is None]:
            raise ModelError(f"the model needs {of_atoms[0]} of every atom, which states of TorchSim do not have")
        values = read_inputs(ase.Atoms("H"), rows, inputs)
        return {name: torch.as_tensor(value, device=self._device) for name, value in values.items()}

    @ModelInterface.compute_forces.setter  # type: ignore[untyped-decorator]
    def compute_forces(self, value: bool) -> None:
        """Whether forces are wanted."""
        self._compute_forces = value

    @ModelInterface.compute_stress.setter  # type: ignore[untyped-decorator]
    def compute_stress(self, value: bool) -> None:
        """Whether stress is wanted."""
        self._compute_stress = value

    def forward(self, state: SimState, **_: Any) -> dict[str, Tensor]:
        """Energies (S,), forces (N, 3) and stress (S, 3, 3) of S systems of N atoms in all."""
        graph = self._graph(state)
        names = ["energy", *(["forces"] if self._compute_forces else [])]
        periodic = bool(graph.pbc.all())
        with torch.inference_mode(False), torch.enable_grad():
            values = self.potential(graph, [*names, *(["stress"] if self._compute_stress and periodic else [])])
        results = {name: value.detach().to(self._dtype) for name, value in values.items()}
        if self._compute_stress and not periodic:
            results["stress"] = torch.zeros_like(graph.cell, dtype=self._dtype)
        return results

    def _graph(self, state: SimState) -> Graph:
        numbers = state.atomic_numbers
        require_known(numbers.cpu().numpy(), self.potential.elements, "the state")
        positions, cell = state.positions.detach().double(), state.row_vector_cell.detach().double()
        pbc = torch.as_tensor(state.pbc, device=self._device).expand(len(cell), 3)
        pairs, _, shifts = self.neighbour_list(positions, cell, pbc, self.potential.cutoff, state.system_idx)
        order = torch.argsort(pairs[0], stable=True)
        n_rows = {"atom": len(positions), "structure": len(cell)}
        inputs = {
            name: value.expand(n_rows[self.potential.inputs[name].scope], *value.shape[1:])
            for name, value in self._inputs.items()
        }
        edges = pairs[:, order].long().contiguous()
        return Graph(positions, numbers, cell, pbc, state.system_idx, edges, shifts[order].double(), inputs)
