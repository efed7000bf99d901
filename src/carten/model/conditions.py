"""Conditions: the inputs of a network besides the atoms of a structure, and the ways to embed them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carten.errors import ModelError

Scope = Literal["structure", "atom", "pair"]


def rank_of(indices: str) -> int:
    """Number of Cartesian indices of a symmetry formula, e.g. 2 for ``"ij=ji; ii=0"``."""
    return len(indices.split(";")[0].split("=")[0].strip())


@dataclass(frozen=True)
class Scalar:
    """A number: smooth bounded functions of ``value / scale`` through a small perceptron, added to the scalars."""


@dataclass(frozen=True)
class Category:
    """One of a finite set: a learned vector for each.

    Args:
        values: names or integers as they occur in files; graphs carry the position of the value among them. Training
            fills them in from the data.
    """

    values: tuple[str | int, ...] = ()


@dataclass(frozen=True)
class Fidelity(Category):
    """A category (level of theory, basis set) with reference energies of its own.

    Args:
        mode: ``embedding`` tells the network the level, ``heads`` reads each level from the same features with readouts
            of its own, ``both`` does both.
    """

    mode: Literal["embedding", "heads", "both"] = "embedding"


@dataclass(frozen=True)
class Tensor:
    """A Cartesian tensor: its irreducible parts times learned functions of its magnitude, added to the messages.

    A zero tensor leaves the features exactly unchanged, and the features are smooth there.
    """


@dataclass(frozen=True)
class Exchange:
    """Moments of atoms that enter through ``|m_i|^2`` and products of moments: no spin-orbit coupling.

    ``m_i . m_j`` of neighbours, and of neighbours of the same atom, see :mod:`carten.model.exchange`.

    The features do not change when all moments are rotated or reversed alone, and zero moments leave them unchanged.
    """


@dataclass(frozen=True)
class Coupled:
    """Not an input of the network: terms of the energy, or charges, depend on it by a formula."""


EmbeddingKind = Scalar | Category | Tensor | Exchange | Coupled


@dataclass(frozen=True)
class Input:
    """One input of a model besides the atoms.

    Args:
        name: key in files and configuration.
        scope: one value per structure or per atom.
        indices: Cartesian indices and symmetry.
        parity: eigenvalue under inversion.
        unit: unit of values.
        embed: how it enters the features.
        default: value when a structure does not carry it; ``None`` makes that an error. Of tensors only 0.
        scale: size of typical values, in ``unit``.
        ase: name under which ASE keeps it, if any; looked up when there is none under ``name``.
        along_with: another input that a structure has to carry if it carries this one.
        note: its meaning and conventions, for people.
        time_parity: eigenvalue under time reversal.

    Raises:
        ModelError: a tensor has another default than 0.
    """

    name: str
    scope: Scope
    indices: str
    parity: int
    unit: str
    embed: EmbeddingKind
    default: float | str | None = None
    scale: float = 1.0
    ase: str = ""
    along_with: str = ""
    note: str = ""
    time_parity: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.embed, Tensor) and self.default not in (None, 0):
            raise ModelError(
                f"input {self.name!r} has the default {self.default!r}, but of tensors only 0 looks the same from all "
                "sides: give the structures their values, or set the default to 0"
            )

    @property
    def rank(self) -> int:
        """Number of Cartesian indices."""
        return rank_of(self.indices)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value, ``(3,) * rank``."""
        return (3,) * self.rank
