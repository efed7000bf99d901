"""What libraries have of the uncertainty of a model whose members share a network: deviations from their mean.

The norm of the deviations of an atom is the calibrated standard deviation of its energy. They are linear in the
features of the last layer, one readout more, and cost next to nothing. Since they add up to zero over the members, they
are turned to one fewer than there are members, which changes no norm, and saves the gradient of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from scipy.linalg import helmert
from torch import Tensor

from carten.ops.space import SCALAR
from carten.properties.heads import Head
from carten.properties.members import UNCERTAIN, Uncertainty
from carten.properties.planning import ENERGIES
from carten.properties.potential import Potential
from carten.properties.routes import Property

DEVIATIONS = "energies_deviations"
"""Name of the readout."""
OF_ENERGIES = ("energies", "energy")
SPREADS = (*OF_ENERGIES, "forces", "virial", "stress")
"""Sources of properties whose spread follows from deviations."""


def deviation_head(model: Potential) -> Head | None:
    """A head with values for all members but one; None where the model has no members, or no energies."""
    source = model.heads[ENERGIES] if ENERGIES in model.heads else None  # noqa: SIM401  # a ModuleDict has no get
    if model.n_members == 1 or not isinstance(source, Head):
        return None
    last = source.readouts[len(source.spaces) - 1]
    n_hidden = int(last.get_parameter(f"out.{SCALAR.name}.weight.{SCALAR.name}").shape[0])
    head = Head(
        Property(DEVIATIONS, "atom", "", +1, "eV"),
        list(source.spaces),
        replace(source.kind, members=model.n_members - 1),
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
    """Weights of one layer of a readout, (features, members - 1), of deviations whose norm is the uncertainty."""
    if model.config.n_members > 1 or model.uncertainty is None:
        weights = trained - trained.mean(dim=1, keepdim=True)
    else:
        first = layer * model.config.n_channels
        weights = model.uncertainty.deviations[:, first : first + len(trained)].T.to(trained.device)
    turn = torch.from_numpy(helmert(model.n_members)).T.to(weights)
    turned: Tensor = weights @ turn * (calibration(model, ENERGIES) * (model.n_members - 1) ** -0.5)
    return turned


def calibration(model: Potential, name: str) -> float:
    """Factor of the spread of a property."""
    return (model.uncertainty or Uncertainty()).scale(name, model.properties)


def force_calibration(model: Potential) -> float:
    """What deviations are multiplied by before forces and virials are derived from them."""
    return calibration(model, "forces" if "forces" in model.properties else ENERGIES) / calibration(model, ENERGIES)


def uncertain_rows(model: Potential, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Uncertainties of properties that follow from deviations, as :func:`carten.deploy.bind.rows` has rows.

    Of a posterior those of energies are not among them, which are known better than from draws.
    """
    sources = ("forces", "virial", "stress") if model.config.n_members == 1 else SPREADS
    uncertain = []
    for row in rows if model.n_members > 1 else ():
        if row["source"] in sources:
            reference = calibration(model, ENERGIES)
            if row["source"] not in OF_ENERGIES:
                reference *= force_calibration(model)
            source = f"spread {row['source']} {calibration(model, row['name']) / reference!r}"
            uncertain.append({**row, "name": f"{row['name']}{UNCERTAIN}", "rank": 0, "ase": "", "source": source})
    return uncertain
