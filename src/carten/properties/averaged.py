"""The mean of an ensemble of readouts, as an ordinary model: readouts are linear in the weights that differ."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from carten.properties.potential import Potential


@torch.inference_mode(False)
def averaged(model: Potential) -> Potential:
    """A model with one readout of each property, which is the mean of all members; another model stays as it is."""
    members = model.config.n_members
    if members == 1:
        return model
    design = model.design
    single = Potential(
        model.config.model_copy(update={"n_members": 1}),
        design.elements,
        [design.properties[name] for name in design.requested],
        design.neighbours,
        backend=model.network.backend,
        inputs=list(design.inputs.values()),
        terms=design.terms,
    )
    single.design = replace(single.design, pulls_ions=design.pulls_ions)
    single.to(model.element_of.device, model.dtype)
    expected = single.state_dict()
    weights = {name: _mean(value, expected[name], members) for name, value in model.state_dict().items()}
    single.load_state_dict(weights)
    return single.train(model.training).requires_grad_(model.network.embedding.requires_grad)


def _mean(value: Tensor, expected: Tensor, members: int) -> Tensor:
    if value.shape == expected.shape:
        return value
    return value.view(*value.shape[:-1], members, expected.shape[-1]).mean(dim=-2)
