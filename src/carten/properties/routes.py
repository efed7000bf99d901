"""Rows of the property table and the routes by which a property may be obtained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from carten.errors import ModelError
from carten.model.conditions import Scope, rank_of

NET_CHARGE = "net charge"
"""As a total: the total charge times the unit tensor; zero for structures of which it is not known."""


@dataclass(frozen=True)
class Readout:
    """Read from the features of atoms; a structure's value is the sum (extensive) or mean (intensive) over them."""

    reduce: Literal["sum", "mean"] = "sum"

    @property
    def name(self) -> str:
        """In configurations."""
        return "readout" if self.reduce == "sum" else "mean"


@dataclass(frozen=True)
class Positive:
    """Read from the features of atoms, then made positive: ``log(1 + exp(x))``, which is x where it is much above 1.

    Args:
        start: size of the values before training.
    """

    start: float = 1.0
    name = "positive"


@dataclass(frozen=True)
class Balanced:
    """Read from the features of atoms, then corrected so that the atoms of a structure add up to a total.

    ``v_i = readout_i + w_i / sum_j w_j (total - sum_j readout_j)``. With ``by="softness"``, w_i > 0 is read as well:
    this is the minimum of ``sum_i chi_i v_i + v_i^2 / (2 w_i)`` under the constraint, with ``readout_i = -w_i chi_i``
    (electronegativity equalisation with atomic hardnesses 1 / w_i).

    Charges also add up to those of fragments, see :mod:`carten.physics.fragments`.

    Args:
        total: the input that is the total, ``""`` for zero.
        by: the weights w: 1, or softnesses.
    """

    total: str = ""
    by: Literal["uniform", "softness"] = "uniform"

    @property
    def name(self) -> str:
        """In configurations."""
        return "balanced" if self.by == "uniform" else "equalised"


@dataclass(frozen=True)
class Equilibrated:
    """Charges of the least energy at a given total, in which they interact: :mod:`carten.physics.equilibration`.

    They follow from the properties ``electronegativities`` and ``hardnesses``.

    Args:
        sigma: Å, width of the Gaussians that interact.
        permittivity: by which the interaction is divided.
        accuracy: of the interaction in cells.
    """

    sigma: float = 1.0
    permittivity: float = 1.0
    accuracy: float = 1e-4
    name = "equilibrated"


@dataclass(frozen=True)
class Induced:
    """Dipoles of the least energy in the field of charges and of each other: :mod:`carten.physics.induction`.

    They follow from the properties ``latent_charges`` and ``latent_polarizabilities``.

    Args:
        permanent: the property that they are without any field, ``""`` for none.
        quadrupoles: the property whose field acts as well, ``""`` for none.
        sigma: Å, width of the Gaussians that interact.
        permittivity: by which the interaction is divided.
        accuracy: of the interaction in cells.
    """

    permanent: str = ""
    quadrupoles: str = ""
    sigma: float = 1.0
    permittivity: float = 1.0
    accuracy: float = 1e-4
    name = "induced"


@dataclass(frozen=True)
class Sum:
    """The sum over atoms of another property, plus additive terms."""

    of: str
    name = "sum"


@dataclass(frozen=True)
class Multipole:
    """Dipole or quadrupole about the centre of mass from charges q and dipoles d of atoms, for molecules.

    Rank 1: ``sum_i q_i r_i + d_i``. Rank 2: ``sum_i t_i + 3/2 STF(q_i r_i r_i + r_i d_i + d_i r_i)`` with a traceless
    t_i that is read from the features.

    Args:
        charges: the property q.
        dipoles: the property d, ``""`` for none.
    """

    charges: str = "charges"
    dipoles: str = "atomic_dipoles"

    @property
    def name(self) -> str:
        """In configurations."""
        return "multipole" if self.dipoles else "charges"


@dataclass(frozen=True)
class Latent:
    """Polarization ``P = sum_i q_i r_i + d_i``, or how it changes when an atom moves, in cells and in molecules.

    Args:
        charges: the property q, charges that interact in the energy.
        dipoles: the property d, ``""`` for none.

    Source: P. Zhong et al., Machine learning interatomic potential can infer electrical response (2025).
    """

    charges: str = "latent_charges"
    dipoles: str = ""

    @property
    def name(self) -> str:
        """In configurations."""
        return "latent_multipoles" if self.dipoles else "latent"


@dataclass(frozen=True)
class Permittivity:
    """``1 + 4 pi of / volume`` for a polarizability ``of`` in units of volume."""

    of: str
    name = "permittivity"


@dataclass(frozen=True)
class Derivative:
    """``sign * d^n(of) / d(wrt_1) .. d(wrt_n)``, divided by the volume of the cell if asked.

    Each of ``wrt`` is positions, strain or an input. The indices of the property are those of ``of`` followed by those
    of each ``wrt``; units are converted to that of the property.
    """

    of: str
    wrt: tuple[str, ...]
    sign: int = 1
    per_volume: bool = False
    name = "derivative"

    def __post_init__(self) -> None:
        if type(self.wrt) is not tuple or not self.wrt:
            raise ModelError(f"a derivative of {self.of!r} is with respect to a tuple of names, found {self.wrt!r}")


@dataclass(frozen=True)
class AtomicVirial:
    """``-1/2 sum_edges (d(of)/d r_e) r_e`` over the edges an atom takes part in: adds up to the virial.

    Times ``sign`` and divided by the volume of the cell if asked.
    """

    of: str
    sign: int = 1
    per_volume: bool = False
    name = "atomic_virial"


Route = (
    Readout
    | Positive
    | Balanced
    | Equilibrated
    | Induced
    | Sum
    | Multipole
    | Latent
    | Permittivity
    | Derivative
    | AtomicVirial
)


@dataclass(frozen=True)
class Property:
    """One thing a model predicts.

    Args:
        name: key in results, files and configuration.
        scope: one value per structure, per atom, or per ordered pair of atoms of a structure.
        indices: Cartesian indices and their symmetry, ``""`` (scalar), ``"i"``, ``"ij"``, ``"ij=ji"``,
            ``"ij=ji; ii=0"``, ..
        parity: eigenvalue under inversion of the whole tensor (a polar vector -1, an axial vector +1).
        unit: unit of values in memory, results and files.
        routes: ways to obtain it, the default first.
        report: unit in which errors are reported.
        modulo: ``"lattice"`` for dipoles of periodic cells, which are defined up to e times lattice vectors: errors are
            folded.
        total: what the atoms of a structure add up to, where a sum rule says so: ``"zero"``, an input, or
            :data:`NET_CHARGE`.
        ase: name under which ASE knows it, where that differs.
        note: conventions (sign, origin, meaning of the indices), for people.
        time_parity: eigenvalue under time reversal: -1 for magnetic moments.
    """

    name: str
    scope: Scope
    indices: str
    parity: int
    unit: str
    routes: tuple[Route, ...] = (Readout(),)
    report: str = ""
    modulo: Literal["", "lattice"] = ""
    total: str = ""
    ase: str = ""
    note: str = ""
    time_parity: int = 1

    @property
    def rank(self) -> int:
        """Number of Cartesian indices."""
        return rank_of(self.indices)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value, ``(3,) * rank``."""
        return (3,) * self.rank

    def n_rows(self, n_atoms: int) -> int:
        """Number of values of a structure of so many atoms: 1, N, or N^2 for pairs."""
        return {"structure": 1, "atom": n_atoms, "pair": n_atoms**2}[self.scope]

    @property
    def reciprocal(self) -> bool:
        """Whether values of atoms (a, b) are those of (b, a) with their indices in the other order, as in Hessians."""
        wrt = [route.wrt for route in self.routes if isinstance(route, Derivative)]
        return self.scope == "pair" and self.rank == 2 and any(len(v) == 2 and v[0] == v[1] for v in wrt)

    @property
    def per_volume(self) -> bool:
        """Whether it is divided by the volume of the cell, so that there is none without a cell."""
        match self.routes[0] if self.routes else None:
            case Derivative(per_volume=divide) | AtomicVirial(per_volume=divide):
                return divide
            case Permittivity():
                return True
        return False

    @property
    def extensive(self) -> bool:
        """Whether a structure's value grows with its number of atoms (errors are then also given per atom)."""
        mean = isinstance(route := self.routes[0], Readout) and route.reduce == "mean"
        return self.scope == "structure" and not mean and not self.per_volume

    @property
    def report_unit(self) -> str:
        """Unit in which errors are reported."""
        return self.report or self.unit
