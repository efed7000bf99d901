"""Fragments of structures whose charges are prescribed, as in constrained density functional theory.

Atoms carry the label of their fragment, a whole number from 0, and its charge; those labelled -1 are in no fragment and
have together what is left of the total charge. Without labels all atoms of a structure have its total charge together.

Source: Q. Wu, T. Van Voorhis, Phys. Rev. A 72, 024502 (2005).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.model.graph import Graph
from carten.physics.names import CHARGE, FRAGMENT, FRAGMENT_CHARGE

NO_FRAGMENT = -1
"""Label of atoms in no fragment."""
SAME = 1e-5
"""e, within which prescribed charges are the same: what is left of them in float32."""


@dataclass(frozen=True)
class ChargeGroups:
    """Atoms whose charges add up to something together: P parts, those of a structure follow each other.

    Args:
        of: (N,) part of each atom.
        structure: (P,) ascending.
        totals: (P,) float64, e.
    """

    of: Tensor
    structure: Tensor
    totals: Tensor


def charge_groups(graph: Graph) -> ChargeGroups:
    """Whole structures, or where the input ``fragment`` says so their fragments and what is in none.

    Raises:
        ModelError: a label is no whole number from -1, the atoms of a fragment do not have one charge, an atom in no
            fragment has one, or the fragments of a structure without other atoms do not add up to its total charge.
    """
    total = graph.inputs[CHARGE].to(torch.float64)
    structures = torch.arange(graph.n_structures, device=total.device)
    if FRAGMENT not in graph.inputs:
        return ChargeGroups(graph.structure, structures, total)
    fragment_charges = graph.inputs[FRAGMENT_CHARGE].to(torch.float64)
    label = _labels(graph, fragment_charges)
    if not bool((label != NO_FRAGMENT).any()):
        return ChargeGroups(graph.structure, structures, total)
    fragments, group = torch.unique(torch.stack([graph.structure, label]), dim=1, return_inverse=True)
    structure, free = fragments[0], fragments[1] == NO_FRAGMENT
    charge = _charges(graph, fragments, group, fragment_charges)
    remaining = total.index_add(0, structure, -charge)
    _require_sums(remaining, total, structure, free)
    return ChargeGroups(group, structure, torch.where(free, remaining[structure], charge))


def totals(name: str, graph: Graph, like: Tensor) -> tuple[Tensor, Tensor]:
    """What values add up to, (P, 3, ..), and with which others each does, (N,).

    Args:
        name: an input, the total charge if charges of fragments are to be looked at; ``""`` for zero.
        graph: the structures.
        like: (N, 3, ..) the values.
    """
    if name == CHARGE:
        groups = charge_groups(graph)
        return groups.totals, groups.of
    zeros = like.new_zeros(graph.n_structures, *like.shape[1:])
    return graph.inputs[name].to(like.dtype) if name else zeros, graph.structure


def isotropic_totals(graph: Graph, like: Tensor) -> Tensor:
    """(S, 3, 3) the total charge times the unit tensor, which Born charges add up to."""
    return graph.inputs[CHARGE].to(like)[:, None, None] * torch.eye(3, dtype=like.dtype, device=like.device)


def _labels(graph: Graph, fragment_charges: Tensor) -> Tensor:
    """(N,) int64."""
    values = graph.inputs[FRAGMENT]
    label = values.round().long() if values.is_floating_point() else values
    if bool((wrong := (label != values) | (label < NO_FRAGMENT)).any()):
        atom = int(wrong.nonzero()[0])
        raise ModelError(
            f"structure {int(graph.structure[atom])} of the batch: {FRAGMENT} is a label of atoms, a whole number from "
            f"0, or {NO_FRAGMENT} in no fragment; found {float(values[atom]):g}"
        )
    if bool((stray := (label == NO_FRAGMENT) & (fragment_charges != 0.0)).any()):
        atom = int(stray.nonzero()[0])
        raise ModelError(
            f"structure {int(graph.structure[atom])} of the batch: an atom in no fragment has a {FRAGMENT_CHARGE}, "
            f"{float(fragment_charges[atom]):g} e; give it the label of its fragment ({FRAGMENT}), or the charge 0"
        )
    return label


def _charges(graph: Graph, fragments: Tensor, group: Tensor, fragment_charges: Tensor) -> Tensor:
    """(P,) e, the charge of every fragment."""
    low, high = (
        fragment_charges.new_zeros(fragments.shape[1]).scatter_reduce(0, group, fragment_charges, x, include_self=False)
        for x in _ENDS
    )
    if bool((unequal := high - low > SAME).any()):
        structure, label = fragments[:, int(unequal.nonzero()[0])].tolist()
        values = sorted(
            set(fragment_charges[(graph.structure == structure) & (graph.inputs[FRAGMENT] == label)].tolist())
        )
        raise ModelError(
            f"structure {structure} of the batch: atoms of fragment {label} have one {FRAGMENT_CHARGE}, that of the "
            f"whole fragment; found {', '.join(f'{x:g}' for x in values)} e"
        )
    return low


_ENDS = ("amin", "amax")


def _require_sums(remaining: Tensor, total: Tensor, structure: Tensor, free: Tensor) -> None:
    without_others = remaining.new_ones(len(remaining), dtype=torch.bool).index_fill(0, structure[free], False)
    if bool((wrong := without_others & (remaining.abs() > SAME)).any()):
        first = int(wrong.nonzero()[0])
        raise ModelError(
            f"structure {first} of the batch: the charges of its fragments add up to "
            f"{float(total[first] - remaining[first]):g} e, its {CHARGE} is {float(total[first]):g} e: correct one of "
            f"them, or label atoms {NO_FRAGMENT}, which have what is left"
        )
