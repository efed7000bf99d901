"""A trained model for other elements: every weight that belongs to an element goes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from carten.properties.potential import Potential


def with_elements(source: Potential, elements: Sequence[int], like: Mapping[int, int], seed: int = 0) -> Potential:
    """The model for some of its elements, and for others.

    Args:
        source: trained.
        elements: atomic numbers of the new model.
        like: for new elements the one of ``source`` whose weights they begin with; others begin with random weights.
        seed: of these.

    Returns:
        A model that predicts exactly as ``source`` where all elements are known to both.
    """
    model = _untrained(source, elements, seed)
    if model.elements == source.elements:
        model.load_state_dict(source.state_dict())
        return model
    origins = [source.elements.index(z) if (z := like.get(n, n)) in source.elements else -1 for n in model.elements]
    axes, initial = element_axes(source), model.state_dict()
    weights = {}
    for name, value in source.state_dict().items():
        if name not in axes:
            weights[name] = value
            continue
        axis = axes[name]
        old = value.unflatten(axis, (-1, len(source.elements)))
        new = initial[name].unflatten(axis, (-1, len(model.elements))).clone()
        for row, origin in enumerate(origins):
            if origin >= 0:
                new.select(axis + 1, row).copy_(old.select(axis + 1, origin))
        weights[name] = new.flatten(axis, axis + 1)
    model.load_state_dict(weights)
    return model


def element_axes(model: Potential) -> dict[str, int]:
    """The axis along which a weight has rows of elements, by name; found by what a model of one more has longer."""
    number = next(z for z in range(1, 119) if z not in model.elements) if len(model.elements) < 118 else None
    others = model.elements[:-1] if number is None else (*model.elements, number)
    shapes = {name: value.shape for name, value in _untrained(model, others, 0).state_dict().items()}
    axes = {}
    for name, value in model.state_dict().items():
        if different := [k for k, (a, b) in enumerate(zip(value.shape, shapes[name], strict=True)) if a != b]:
            [axes[name]] = different
    return axes


def _untrained(source: Potential, elements: Sequence[int], seed: int) -> Potential:
    rows, inputs = [source.properties[name] for name in source.requested], list(source.inputs.values())
    backend = source.network.backend
    model = Potential(source.config, elements, rows, source.neighbours, seed, backend, inputs, source.term_configs)
    return model.to(source.network.embedding)
