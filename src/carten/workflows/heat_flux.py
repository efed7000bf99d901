"""The flux of heat of message-passing models, for thermal conductivities by Green and Kubo.

``J = d/dt sum_i r_i E_i = sum_i E_i v_i + sum_j W_j v_j`` with the energy ``E_i = U_i + m_i v_i^2 / 2`` of each atom
and ``W_j = sum_i (r_i - r_j) dU_i / dr_j``. An energy U_i depends on atoms as many cutoffs away as the network has
layers, and r_i - r_j is that to the image of j which it depends on. So the cell is unfolded: its atoms and all images
that they see become one molecule, in which the energies of the atoms of the cell are differentiated.

Source: M. F. Langer, F. Knoop, C. Carbogno, M. Scheffler, M. Rupp, Phys. Rev. B 108, L100302 (2023), semi-local flux;
Z. Fan et al., Phys. Rev. B 92, 094301 (2015), why virials that share edges evenly do not serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import ase
import numpy as np
import torch
from ase import units

from carten.data.structures import read_inputs, require_known, structure_graph
from carten.errors import DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.math.arrays import Array, Floats
from carten.model.graph import Graph
from carten.model.slopes import autograd_recording, slopes
from carten.physics.names import FIELD
from carten.properties.potential import Potential


@dataclass(frozen=True)
class HeatVirials:
    """What the flux of heat follows from, at any velocities.

    Args:
        energies: (N,) U of the atoms, eV, those of isolated atoms included.
        virials: (N, 3, 3) W of the atoms, eV: direction of the flux first, that of the velocity second. Transposed
            they add up to the virial ``-dE/dstrain``.
    """

    energies: Floats
    virials: Floats

    def flux(self, atoms: ase.Atoms) -> Floats:
        """(3,) eV Å/fs at the velocities of the atoms, not divided by the volume."""
        velocities = atoms.get_velocities() * units.fs
        energies = self.energies + 0.5 * atoms.get_masses() * np.square(atoms.get_velocities()).sum(axis=1)
        total: Floats = energies @ velocities + np.einsum("nab,nb->a", self.virials, velocities)
        return total


def heat_flux(atoms: ase.Atoms, calculator: Calculator) -> Floats:
    """``d/dt sum_i r_i E_i``, (3,) in eV Å/fs: what Green and Kubo's formula correlates, times the volume.

    Args:
        atoms: with velocities.
        calculator: of a model; a committee's flux is that of its mean.

    Raises:
        DataError: the atoms do not move.
        ModelError: see :func:`heat_virials`.
    """
    if not atoms.has("momenta") or not atoms.get_momenta().any():
        raise DataError(
            f"{atoms.get_chemical_formula()}: a flux of heat is that of moving atoms, expected velocities, found "
            "none; take the atoms from molecular dynamics, or set them"
        )
    return heat_virials(atoms, calculator).flux(atoms)


def heat_virials(atoms: ase.Atoms, calculator: Calculator) -> HeatVirials:
    """Energies and virials of atoms that the flux of heat follows from.

    Args:
        atoms: a molecule, or any cell, however small.
        calculator: of a model; of a committee the mean.

    Raises:
        ModelError: an element that the model does not know, a model without energies, or with a term that reaches
            beyond its cutoff, or an electric field, in which the energy of an atom depends on where it is.
    """
    values = [_of_model(atoms, model, calculator) for model in calculator.models]
    energies, virials = (np.mean(part, axis=0) for part in zip(*values, strict=True))
    return HeatVirials(energies, virials)


def _of_model(atoms: ase.Atoms, model: Potential, calculator: Calculator) -> tuple[Floats, Floats]:
    formula = atoms.get_chemical_formula()
    require_known(atoms.numbers, model.elements, formula)
    inputs = read_inputs(atoms, model.inputs, calculator.inputs)
    graph = structure_graph(atoms, model.cutoff, inputs, formula).to(device=model.element_of.device)
    _require_local(model, graph)
    n_atoms = graph.n_atoms
    with autograd_recording():
        of_atoms = [name for name, row in model.inputs.items() if row.scope == "atom"]
        unfolded, parents = unfold(graph, model.config.n_layers, of_atoms)
        positions = unfolded.positions.requires_grad_()
        energies = model(unfolded, ["energies"])["energies"][:n_atoms]
        places = positions.detach()
        weights = [torch.ones_like(energies), *places[:n_atoms].to(energies).unbind(1)]
        passes = [
            slopes(energies, [positions], "derivative of energies of atoms", False, axis < 3, weight)[0]
            for axis, weight in enumerate(weights)
        ]
    of_images = torch.stack(passes[1:], dim=1) - places[:, :, None] * passes[0][:, None, :]
    virials = of_images.new_zeros(n_atoms, 3, 3).index_add(0, parents, of_images)
    return energies.detach().cpu().numpy(), virials.cpu().numpy()


def _require_local(model: Potential, graph: Graph) -> None:
    if "energies" not in model.properties:
        raise ModelError("the model has no energies of atoms: a flux of heat is that of energy")
    if beyond := [term.kind for term in model.term_configs if not term.local]:
        raise ModelError(
            f"the energy of {beyond[0]} reaches beyond the cutoff of the network: there is no flux of heat with terms: "
            f"{beyond[0]}; train a model without it"
        )
    if FIELD in graph.inputs and bool(graph.inputs[FIELD].any()):
        raise ModelError("in an electric field the energy of an atom depends on where it is: set electric_field to 0")


def unfold(graph: Graph, steps: int, of_atoms: Sequence[str] = ()) -> tuple[Graph, torch.Tensor]:
    """One structure and all images within some steps along its edges, as a molecule; the atoms themselves come first.

    Args:
        graph: one structure.
        steps: the atoms reached in the last one have no edges of their own.
        of_atoms: names of the inputs that atoms have, not structures.

    Returns:
        the molecule, about the middle of the atoms, and the atom that each of its atoms is an image of.
    """
    nodes, edges = _images(graph, steps)
    parents = torch.as_tensor(nodes[:, 0], device=graph.positions.device)
    shifts = torch.as_tensor(nodes[:, 1:], device=graph.positions.device).to(graph.cell)
    middle = graph.positions.detach().mean(dim=0)
    molecule = replace(
        graph,
        positions=graph.positions.detach()[parents] - middle + shifts @ graph.cell[0],
        numbers=graph.numbers[parents],
        cell=torch.zeros_like(graph.cell),
        pbc=torch.zeros_like(graph.pbc),
        structure=torch.zeros_like(parents),
        edge_index=torch.as_tensor(edges, device=parents.device),
        edge_shift=graph.edge_shift.new_zeros(edges.shape[1], 3),
        inputs={**graph.inputs, **{name: graph.inputs[name][parents] for name in of_atoms}},
    )
    return molecule, parents


def _images(graph: Graph, steps: int) -> tuple[Array, Array]:
    """Atoms with their shifts, (M, 4), and edges between them, (2, E) by centre."""
    centre, neighbour = graph.edge_index.cpu().numpy()
    ends = np.column_stack([neighbour, graph.edge_shift.cpu().numpy().round().astype(np.int64)])
    counts = np.bincount(centre, minlength=graph.n_atoms)
    starts = counts.cumsum() - counts
    nodes = np.column_stack([np.arange(graph.n_atoms), np.zeros((graph.n_atoms, 3), dtype=np.int64)])
    first, edges = 0, []
    for _ in range(steps):
        last, frontier = len(nodes), nodes[first:]
        of_frontier = counts[frontier[:, 0]]
        before = np.repeat(of_frontier.cumsum() - of_frontier, of_frontier)
        chosen = np.repeat(starts[frontier[:, 0]], of_frontier) + np.arange(of_frontier.sum()) - before
        reached = ends[chosen]
        reached[:, 1:] += np.repeat(frontier[:, 1:], of_frontier, axis=0)
        nodes, place = _together(nodes, reached)
        edges.append(np.stack([np.repeat(np.arange(first, last), of_frontier), place]))
        first = last
    return nodes, np.concatenate(edges, axis=1)


def _together(nodes: Array, reached: Array) -> tuple[Array, Array]:
    """The nodes, new ones among those reached appended, and where each of those reached is."""
    rows, index, inverse = np.unique(np.concatenate([nodes, reached]), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(index, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rows[order], rank[inverse.reshape(-1)][len(nodes) :]
