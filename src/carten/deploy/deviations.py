"""What libraries have of the uncertainty of a model whose members share a network: deviations of energies of atoms.

The norm of the deviations of an atom is the calibrated standard deviation of its energy. They are linear in the
features of the last layer, one readout more, and cost next to nothing.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from carten.ops.space import SCALAR
from carten.properties.heads import Head
from carten.properties.planning import ENERGIES
from carten.properties.potential import Potential
from carten.properties.routes import Property

DEVIATIONS = "energies_deviations"
"""Name of the readout."""


def deviation_head(model: Potential) -> Head | None:
    """A head with a value for each member; None where the model has no members, or no energies."""
    source = model.heads[ENERGIES] if ENERGIES in model.heads else None  # noqa: SIM401  # a ModuleDict has no get
    if model.n_members == 1 or not isinstance(source, Head):
        return None
    last = source.readouts[len(source.spaces) - 1]
    n_hidden = int(last.get_parameter(f"out.{SCALAR.name}.weight.{SCALAR.name}").shape[0])
    head = Head(
        Property(DEVIATIONS, "atom", "", +1, "eV"),
        list(source.spaces),
        replace(source.kind, members=model.n_members),
        (source.n_channels, n_hidden),
        torch.Generator(),
    )
    head.to(device=model.element_of.device, dtype=model.dtype)
    state = source.state_dict()
    for k in range(len(source.readouts)):
        name = f"readouts.{k}.out.{SCALAR.name}.weight.{SCALAR.name}"
        state[name] = _weights(model, state[name], k % len(source.spaces)).to(model.dtype)
    head.load_state_dict(state)
    return head


def _weights(model: Potential, trained: Tensor, layer: int) -> Tensor:
    """Weights of one layer of a readout, (features, members), of deviations whose norm is the uncertainty."""
    scale = 1.0 if model.uncertainty is None else model.uncertainty.scales.get("energy", 1.0)
    if model.config.n_members > 1 or model.uncertainty is None:
        weights = trained - trained.mean(dim=1, keepdim=True)
    else:
        first = layer * model.config.n_channels
        weights = model.uncertainty.deviations[:, first : first + len(trained)].T.to(trained.device)
    scaled: Tensor = weights * (scale * (model.n_members - 1) ** -0.5)
    return scaled
