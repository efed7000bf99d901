"""Small ensembles of each kind, of random weights."""

import torch

from carten.model.config import NetworkConfig
from carten.properties.members import Uncertainty
from carten.properties.potential import Potential
from carten.properties.spec import property_table
from carten.uncertainty import Ensemble
from small import NETWORK, small_model

KINDS = ("committee", "readouts", "posterior")


def plain_model(seed: int = 1, n_layers: int = 2, n_members: int = 1, properties=("energy", "forces")) -> Potential:
    changes = {"n_layers": n_layers, "radial": {"hidden": (8,)}, "n_members": n_members}
    rows = [property_table()[name] for name in properties]
    return Potential(NetworkConfig.model_validate(NETWORK | changes), (1, 6, 8), rows, seed=seed).freeze()


def posterior(model: Potential, draws: int, scales=None) -> Uncertainty:
    size = (model.config.n_layers - 1) * model.config.n_channels + model.config.n_readout_channels
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return Uncertainty(scales or {}, root @ root.T / size + 0.1 * torch.eye(size, dtype=torch.float64), draws)


def ensemble(kind: str, scales=None, draws: int = 8) -> Ensemble:
    if kind == "committee":
        models = [small_model(properties=("energy", "forces"), seed=k) for k in range(4)]
        return Ensemble(models, Uncertainty(scales or {}))
    if kind == "readouts":
        return Ensemble([plain_model(n_members=4)], Uncertainty(scales or {}))
    model = plain_model()
    return Ensemble([model], posterior(model, draws, scales))
