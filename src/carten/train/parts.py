"""Parameters of a model by groups with names: what is frozen, adapted, or has a learning rate of its own."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence

from carten.errors import ConfigError
from carten.properties.potential import Potential

LAYERS = r"network\.layers\.\d+\."
PARTS: Mapping[str, str] = {
    "network": r"network\.",
    "embedding": r"network\.embedding$",
    "inputs": r"network\.inputs\.",
    "layers": LAYERS,
    "interactions": LAYERS + r"(interaction|exchanges)\.",
    "radial": LAYERS + r"(interaction|exchanges\.\d+\.density)\.radial\.",
    "products": LAYERS + r"(reduce|product)\.",
    "updates": LAYERS + r"(out|entry|residual)\.",
    "readouts": r"(heads|softness)\.",
}
"""Patterns of the names of their parameters. ``layer 1``, ``layer 2``, .. are groups as well."""


def parts_of_model(model: Potential) -> dict[str, list[str]]:
    """Names of the parameters of every group that the model has."""
    layers = {f"layer {k + 1}": rf"network\.layers\.{k}\." for k in range(model.config.n_layers)}
    names = [name for name, _ in model.named_parameters()]
    groups = {
        group: [name for name in names if re.match(pattern, name)] for group, pattern in {**PARTS, **layers}.items()
    }
    return {group: members for group, members in groups.items() if members}


def parameters_of(key: str, groups: Iterable[str], model: Potential) -> list[str]:
    """Names of the parameters of some groups, each once.

    Raises:
        ConfigError: the model has no such group; ``key`` of the configuration names it.
    """
    groups_of_model, names = parts_of_model(model), dict[str, None]()
    for group in groups:
        if group not in groups_of_model:
            near = difflib.get_close_matches(group, groups_of_model, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise ConfigError(
                f"{key}: the model has no group of parameters {group!r}, it has {', '.join(groups_of_model)}{hint}"
            )
        names |= dict.fromkeys(groups_of_model[group])
    return list(names)


def require_apart(key: str, groups: Sequence[str], model: Potential) -> None:
    """Check that no parameter belongs to two of these groups.

    Raises:
        ConfigError: one does.
    """
    owner: dict[str, str] = {}
    for group in groups:
        for name in parameters_of(key, [group], model):
            if name in owner:
                raise ConfigError(f"{key}: {owner[name]} and {group} share parameters ({name}); name each only once")
            owner[name] = group
