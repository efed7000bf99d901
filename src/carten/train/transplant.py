"""Weights of a trained model in a model of the same network with other properties, inputs or levels of theory.

Other elements come first, see :mod:`carten.train.elements`.

Readouts and embeddings are modules of their own. What else depends on properties and inputs are the tensors that pass
through the network: the paths of its products and messages. Every weight of a path that both models have is taken over,
with the factor that keeps what it adds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from carten.model.conditions import Category, Fidelity
from carten.model.embeddings import CategoryEmbedding, Embedding, Invariants, TensorEmbedding
from carten.model.exchange import ExchangeLayer
from carten.model.interaction import GatedInteraction, Interaction
from carten.model.product import CoupledProduct, RecursiveProduct, SpatialProduct, between
from carten.ops import builders
from carten.ops.space import SCALAR, Part
from carten.properties.heads import Head
from carten.properties.potential import Potential

SlotLabels = Sequence[Any]


def take_over(model: Potential, source: Potential, like: Mapping[str, str] | None = None) -> list[str]:
    """Fill a model with the weights of another wherever they have the same meaning.

    Inputs that the other lacks have no effect at first: the model predicts as the other does, whatever their values.

    Args:
        model: untrained, of the same configuration and elements.
        source: trained.
        like: for new levels of theory, the level of ``source`` that they begin as; its first by default.

    Returns:
        Names of parameters of the source that have a namesake but do not fit; those of the model stay as they are.
    """
    weights, trained = model.state_dict(), source.state_dict()
    modules: dict[str, nn.Module] = dict(source.named_modules())
    for name, module in model.named_modules():
        if (other := modules.get(name)) is not None:
            for key, value in _matched(module, other, model, source, like or {}).items():
                trained[f"{name}.{key}"] = value
        elif isinstance(module, Embedding | ExchangeLayer):
            _silence(module)
    shared = {name: value for name, value in trained.items() if name in weights}
    misfits = [name for name, value in shared.items() if value.shape != weights[name].shape]
    model.load_state_dict({name: value for name, value in shared.items() if name not in misfits}, strict=False)
    return misfits


@torch.no_grad()
def _silence(module: Embedding | ExchangeLayer) -> None:
    """Set to zero what multiplies the contributions of an input."""
    outermost = [part.weight for part in module.modules() if isinstance(part, Invariants)]
    if isinstance(module, TensorEmbedding):
        outermost += module.gains.values()
    if isinstance(module, ExchangeLayer):
        outermost += [*module.own.parameters(), *module.between.parameters()]
    for weight in outermost:
        weight.zero_()


def _matched(
    module: nn.Module, other: nn.Module, model: Potential, source: Potential, like: Mapping[str, str]
) -> dict[str, Tensor]:
    """Entries of a module's state that are not simply those of its counterpart, by name."""
    n_channels = model.config.n_channels
    if isinstance(module, RecursiveProduct) and isinstance(other, RecursiveProduct):
        return {"weight": _weighted(module, other, _products(module, model), _products(other, model))}
    if isinstance(module, CoupledProduct) and isinstance(other, CoupledProduct):
        labels, others = _products(module, model), _products(other, model)
        rescale = _by_order if model.config.product.orders == "apart" else _by_number
        mixed = _mixed(rescale, (module.mix, other.mix), labels, others, model.config.n_product_channels)
        return _within("mix", mixed)
    if isinstance(module, SpatialProduct) and isinstance(other, SpatialProduct):
        return {"weight": _entries(module.weight, other.weight, module.target.parts, other.target.parts, 2)}
    if isinstance(module, Interaction) and isinstance(other, Interaction):
        messages, others = _messages(module, model), _messages(other, model)
        last = len(module.radial.weight) - 1
        ours, theirs = (each.radial.weight[last].unflatten(1, (-1, n_channels)) for each in (module, other))
        radial = _entries(ours, theirs, messages, others, 1).flatten(1)
        mixed = _within("mix", _mixed(_by_number, (module.mix, other.mix), messages, others, n_channels))
        return {f"radial.weight.{last}": radial, **mixed, **_gates(module, other, messages, others)}
    if isinstance(module, CategoryEmbedding) and isinstance(other, CategoryEmbedding):
        kinds = [each.row.embed for each in (module, other) if isinstance(each.row.embed, Category)]
        if isinstance(kinds[0], Fidelity):
            origins = level_origins(kinds[0].values, kinds[1].values, like)
            return {"vectors": other.vectors.detach()[origins]}
        return {"vectors": _entries(module.vectors, other.vectors, kinds[0].values, kinds[1].values, 0)}
    if isinstance(module, Head) and isinstance(other, Head):
        levels = [each.levels.values if each.levels is not None else ("",) for each in (model, source)]
        return _head(module, other, level_origins(levels[0], levels[1], like), model.config.n_layers)
    return {}


def _products(product: RecursiveProduct | CoupledProduct, model: Potential) -> SlotLabels:
    config = model.config
    symmetric = config.product.paths == "symmetric"
    return builders.weight_paths(product.space, product.target, config.correlation_order, symmetric, between(config))


def _messages(interaction: Interaction, model: Potential) -> SlotLabels:
    """Paths of messages, each with the part that it leads to, as those of products."""
    config = model.config
    target = config.space(config.l_max_edges)
    paths = builders.interaction_paths(interaction.features, config.l_max_edges, target)
    return [(path[2], path[:2]) for path in paths]


def _entries(value: Tensor, trained: Tensor, labels: SlotLabels, others: SlotLabels, axis: int) -> Tensor:
    """``value`` with the entries of ``trained`` that have the same label along an axis."""
    position = {label: k for k, label in enumerate(others)}
    pairs = [(k, position[label]) for k, label in enumerate(labels) if label in position]
    result = value.detach().clone()
    if pairs:
        targets, origins = (torch.tensor(side, device=value.device) for side in zip(*pairs, strict=True))
        result.index_copy_(axis, targets, trained.detach().to(value).index_select(axis, origins))
    return result


def _weighted(product: RecursiveProduct, other: RecursiveProduct, labels: SlotLabels, others: SlotLabels) -> Tensor:
    """Weights of paths, each of which is multiplied by a number that depends on how many paths there are."""
    if labels == others:
        return other.weight
    joined = _entries(product.weight, other.weight * other.scale, labels, others, 1)
    scale = product.scale.reshape(-1, len(labels), product.scale.shape[-1])[:1, :, :1].clone()
    scale[:, [k for k, label in enumerate(labels) if label not in set(others)]] = 1.0
    return joined / scale.to(joined)


def _gates(module: Interaction, other: Interaction, labels: SlotLabels, others: SlotLabels) -> dict[str, Tensor]:
    """Gates of messages, by maps of sums of scalars."""
    if not isinstance(module, GatedInteraction) or not isinstance(other, GatedInteraction):
        return {}
    now, before = ([label for label in each if label[0] == SCALAR] for each in (labels, others))
    result: dict[str, Tensor] = {}
    for name in module.gates.keys() & other.gates.keys():
        maps = (module.gates[name], other.gates[name])
        n_channels = maps[0].get_parameter(f"weight.{SCALAR.name}").shape[1]
        result |= _within(f"gates.{name}", _mixed(_by_number, maps, now, before, n_channels))
    return result


def _within(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for key, value in tensors.items()}


Rescale = Callable[[SlotLabels, SlotLabels], list[float]]
"""Factors that keep what trained weights add, for each of the trained paths, from the paths now and then."""


def _by_number(labels: SlotLabels, others: SlotLabels) -> list[float]:
    """Of maps that divide by the root of the number of paths."""
    return [(len(labels) / len(others)) ** 0.5 for _ in others]


def _by_order(labels: SlotLabels, others: SlotLabels) -> list[float]:
    """Of maps that divide by the root of the number of paths of the same order."""
    now, before = (Counter(_order(path) for _, path in each) for each in (labels, others))
    return [(now[order] / before[order]) ** 0.5 for order in (_order(path) for _, path in others)]


def _order(path: Any) -> int:
    """How many factors a path of :func:`carten.ops.builders.weight_paths` multiplies."""
    return 1 if isinstance(path, Part) else 1 + _order(path[0])


def _mixed(
    rescale: Rescale, mixes: Sequence[nn.Module], labels: SlotLabels, others: SlotLabels, n_channels: int
) -> dict[str, Tensor]:
    """Maps of each part (.., paths * channels, channels), which are divided by a root that depends on the paths."""
    weights, trained = (mix.get_submodule("weight") for mix in mixes)
    result = {}
    for part in {label[0] for label in labels} & {label[0] for label in others}:
        own_labels, other_labels = ([label for label in each if label[0] == part] for each in (labels, others))
        value, source = weights.get_parameter(part.name), trained.get_parameter(part.name)
        axis = value.ndim - 2
        blocks, trained_blocks = (torch.unflatten(each, axis, (-1, n_channels)) for each in (value, source))
        factors = torch.tensor(rescale(own_labels, other_labels), dtype=torch.float64).to(trained_blocks)
        trained_blocks = trained_blocks * factors.view(-1, 1, 1)
        joined = _entries(blocks, trained_blocks, own_labels, other_labels, axis)
        result[f"weight.{part.name}"] = joined.reshape(value.shape)
    return result


def level_origins(levels: SlotLabels, trained_levels: SlotLabels, like: Mapping[str, str]) -> list[int]:
    """The trained level, by position, that each level of theory begins as."""
    names = [str(level) for level in trained_levels]
    return [names.index(name) if (name := like.get(str(level), str(level))) in names else 0 for level in levels]


def _head(head: Head, other: Head, origins: Sequence[int], n_layers: int) -> dict[str, Tensor]:
    """Baselines and readouts of every level of theory."""
    n_elements = head.kind.elements
    rows = torch.tensor([level * n_elements + k for level in origins for k in range(n_elements)])
    result = {name: other.get_buffer(name).index_select(0, rows) for name in ("reference", "shift")}
    for level in range(len(head.readouts) // n_layers):
        first = origins[level] * n_layers if other.kind.apart else 0
        for layer in range(n_layers):
            readout = other.readouts[first + layer].state_dict()
            result |= {f"readouts.{level * n_layers + layer}.{name}": value for name, value in readout.items()}
    return result
