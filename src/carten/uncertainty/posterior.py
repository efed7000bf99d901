"""The posterior of the weights of the last layer, from the data a model was trained on.

The energies of atoms are linear in their last-layer features, so that the posterior of the weights is that of linear
regression: Gaussian, with the covariance ``(sum_data J^T J / sigma^2 + 1 / w^2)^-1``. J are the derivatives of
energies, and of forces, with respect to the weights; sigma are the errors of these; w is the size of the trained
weights, the prior. Bigi, Chong, Ceriotti, Grasselli, Mach. Learn.: Sci. Technol. 5, 045018 (2024).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from carten.data.batches import BatchSampler, Bounds
from carten.data.dataset import Batch, Dataset, collate
from carten.data.labels import Frame
from carten.errors import DataError, ModelError
from carten.ops.space import SCALAR
from carten.properties.heads import Head
from carten.properties.planning import ENERGIES
from carten.properties.potential import Potential

TRAINED_ON = ("energy", "forces")


def last_layer_covariance(
    model: Potential,
    frames: Sequence[Frame],
    errors: Mapping[str, float],
    max_atoms: int = 500,
    advance: Callable[[int], None] | None = None,
) -> Tensor:
    """Covariance of the weights of the last layer, (features, features) eV², float64.

    Args:
        model: trained; it stays as it is.
        frames: the structures that it was trained on, with their labels of energy and forces.
        errors: sigma of ``energy`` in eV and, if forces take part, of components of ``forces`` in eV/Å: one pass back
            through the network for each feature.
        max_atoms: evaluated together, unless one structure has more.
        advance: called with the number of structures done after every batch.

    Raises:
        ModelError: the energies are not read from features, or the model has several readouts.
        DataError: no structure carries a label of what has an error.
    """
    if ENERGIES not in model.heads or not isinstance(head := model.heads[ENERGIES], Head):
        raise ModelError("the posterior of the last layer is that of energies, which this model does not have")
    if (members := model.config.n_members) > 1:
        raise ModelError(f"the model has {members} readouts, which give its uncertainty: it needs no posterior")
    names = [name for name in TRAINED_ON if name in errors]
    if not any(name in frame.labels for frame in frames for name in names):
        raise DataError(
            f"none of the {len(frames)} training structures carries a label of {' or '.join(names)}: give the files "
            "that the model was trained on"
        )
    dataset = Dataset(frames, [model.properties[name] for name in names], model.cutoff, prepared=False)
    bounds, done = Bounds(atoms=max(max_atoms, *dataset.n_atoms())), 0
    information = torch.eye(len(_weights(head)), dtype=torch.float64) / _weights(head).square().mean()
    for indices in BatchSampler(dataset, bounds, shuffle=False):
        batch = collate([dataset[index] for index in indices]).to(model.element_of.device)
        information += _information(model, batch, errors).cpu()
        done += len(indices)
        if advance is not None:
            advance(done)
    return torch.cholesky_inverse(torch.linalg.cholesky(information))


def _weights(head: Head) -> Tensor:
    """Of the last layer of the energies (of the first level of theory), (features,) float64."""
    layers = [head.readouts[k].get_submodule(f"out.{SCALAR.name}") for k in range(len(head.spaces))]
    weights = [layer.get_parameter(f"weight.{SCALAR.name}").detach() for layer in layers]
    return torch.cat(weights).flatten().cpu().to(torch.float64)


def _information(model: Potential, batch: Batch, errors: Mapping[str, float]) -> Tensor:
    """What the labels of a batch say of the weights, (features, features)."""
    graph = batch.graph
    forces = batch.targets["forces"] if "forces" in errors else None
    if forces is not None:
        graph = replace(graph, positions=graph.positions.clone().requires_grad_())
    with torch.enable_grad():
        features = model.descriptors(graph)
        sums = features.new_zeros(graph.n_structures, features.shape[1]).index_add(0, graph.structure, features)
        total = features.new_zeros(features.shape[1], features.shape[1])
        if "energy" in errors:
            rows = sums.detach()[~batch.targets["energy"].isnan()]
            total += rows.T @ rows / errors["energy"] ** 2
        if forces is None or bool(forces.isnan().all()):
            return total
        columns = sums.sum(dim=0).unbind()
        slopes = [
            torch.autograd.grad(column, graph.positions, retain_graph=k < len(columns) - 1)[0].flatten()
            for k, column in enumerate(columns)
        ]
    jacobian = torch.stack(slopes, dim=1)[~forces.isnan().flatten()]
    return total + jacobian.T @ jacobian / errors["forces"] ** 2
