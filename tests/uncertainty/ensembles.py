"""Small ensembles of each kind, of random weights, evaluated by plain torch unless libraries are tested."""

import torch

from carten.model.config import NetworkConfig
from carten.properties.members import Uncertainty
from carten.properties.potential import Potential
from carten.properties.spec import property_table
from carten.uncertainty import Ensemble
from small import NETWORK

KINDS = ("committee", "readouts", "posterior")


def plain_model(
    seed: int = 1,
    n_layers: int = 2,
    n_members: int = 1,
    properties=("energy", "forces"),
    backend: str = "reference",
    terms=(),
    order: int = 2,
) -> Potential:
    changes = {"n_layers": n_layers, "correlation_order": order, "radial": {"hidden": (8,)}, "n_members": n_members}
    rows = [property_table()[name] for name in properties]
    config = NetworkConfig.model_validate(NETWORK | changes)
    return Potential(config, (1, 6, 8), rows, seed=seed, backend=backend, terms=terms).freeze()


def posterior(model: Potential, draws: int, scales=None) -> Uncertainty:
    size = (model.config.n_layers - 1) * model.config.n_channels + model.config.n_readout_channels
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return Uncertainty(scales or {}, root @ root.T / size + 0.1 * torch.eye(size, dtype=torch.float64), draws)


def ensemble(kind: str, scales=None, draws: int = 8, backend: str = "reference") -> Ensemble:
    if kind == "committee":
        models = [plain_model(seed=k, n_layers=1, backend=backend) for k in range(4)]
        return Ensemble(models, Uncertainty(scales or {}))
    if kind == "readouts":
        return Ensemble([plain_model(n_members=4, backend=backend)], Uncertainty(scales or {}))
    model = plain_model(backend=backend)
    return Ensemble([model], posterior(model, draws, scales))
