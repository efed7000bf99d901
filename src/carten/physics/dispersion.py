"""London dispersion by the D3 and D4 models of Grimme and coworkers, evaluated by the libraries of their authors."""

from __future__ import annotations

import difflib
import tomllib
from importlib.resources import files
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from ase.data import chemical_symbols
from ase.units import Bohr, Hartree
from pydantic import Field

from carten.errors import ModelError
from carten.math.arrays import Array
from carten.physics.programs import ProgramInput, ProgramOutput, ProgramTerm
from carten.physics.term import Host, TermConfig

LAST = 103
"""The heaviest element with parameters, lawrencium; of heavier ones the libraries make zeros or crash."""
SMOOTH = 1.0
"""Å, over which interactions are brought to zero before the cutoff."""

COORDINATION = 40.0
"""Bohr, up to which neighbours are counted: the default of both libraries."""

Distance = Annotated[float, Field(gt=SMOOTH)]


class DispersionConfig(TermConfig):
    """What D3 and D4 have in common."""

    functional: str
    """The density functional of the labels, e.g. pbe: it has its own damping at short distances."""
    three_body: bool = False
    """Whether triples of atoms are included (Axilrod, Teller, Muto)."""
    cutoff: Distance = 31.75
    """Å, of pairs; 60 bohr by default, as in the libraries."""
    three_body_cutoff: Distance = 21.17
    """Å, of triples; 40 bohr by default."""

    fixed: ClassVar[bool] = True
    physics: ClassVar[str] = "dispersion"

    @property
    def reach(self) -> tuple[float, float]:
        """Cutoffs of pairs and triples, Å."""
        return self.cutoff, self.three_body_cutoff

    def build(self, host: Host) -> ProgramTerm:
        """The term as part of a model.

        Raises:
            ModelError: the library is not installed, or has no parameters for the functional or for an element.
        """
        if missing := [chemical_symbols[z] for z in host.elements if z > LAST]:
            raise ModelError(f"{self.kind}: there are no dispersion parameters of {', '.join(missing)}")
        return ProgramTerm(Dispersion(self.kind, self.functional, self.three_body, self.reach))


class D3Config(DispersionConfig):
    """D3 with the damping of Becke and Johnson.

    Source: S. Grimme, S. Ehrlich, L. Goerigk, J. Comput. Chem. 32, 1456 (2011).
    """

    kind: Literal["d3"] = "d3"


class D4Config(DispersionConfig):
    """D4, whose coefficients also depend on charges of atoms, which follow from the total charge.

    The total charge is the input ``total_charge`` where the model has it, else 0.

    Source: E. Caldeweyher et al., J. Chem. Phys. 150, 154122 (2019).
    """

    kind: Literal["d4"] = "d4"
    three_body: bool = True


class Dispersion:
    """The energies of one model of dispersion.

    Args:
        kind: d3 or d4.
        functional: whose damping parameters are used.
        three_body: whether triples are included.
        reach: cutoffs of pairs and triples, Å.

    Raises:
        ModelError: the library is not installed, or does not know the functional.
    """

    def __init__(self, kind: str, functional: str, three_body: bool, reach: tuple[float, float]) -> None:
        self.charged = kind == "d4"
        self.reach = reach
        self.interface, damping = _library(kind)
        try:
            self.damping = damping(method=functional, atm=three_body)
        except RuntimeError as error:
            raise ModelError(
                f"{kind}: no parameters for the functional {functional!r}; {_near(kind, functional)}"
            ) from error

    def __call__(self, structure: ProgramInput, shares: bool) -> ProgramOutput:
        """Energies and gradients of one structure."""
        options: dict[str, Any] = {"charge": structure.charge} if self.charged else {}
        if structure.pbc.any():
            options |= {"lattice": self._cell(structure) / Bohr, "periodic": np.full(3, True)}
        model = self.interface.DispersionModel(structure.numbers, structure.positions / Bohr, **options)
        pairs, triples = (distance / Bohr for distance in self.reach)
        model.set_realspace_cutoff(pairs, triples, COORDINATION, SMOOTH / Bohr, SMOOTH / Bohr)
        results = model.get_dispersion(self.damping, grad=True)
        pairwise = model.get_pairwise_dispersion(self.damping).values() if shares else ()
        energies = sum((share.sum(axis=0) for share in pairwise), np.zeros(len(structure.numbers)))
        return ProgramOutput(energies * Hartree, results["gradient"] * (Hartree / Bohr), results["virial"] * Hartree)

    def _cell(self, structure: ProgramInput) -> Array:
        """Lattice vectors, in directions that are not periodic so long that nothing interacts across the vacuum.

        The libraries themselves are wrong for slabs and wires: dftd3 1.7 jumps when atoms move, the charges of D4 are
        those of another lattice.
        """
        if structure.pbc.all():
            return structure.cell
        if self.charged:
            raise ModelError(
                "d4: the charges it depends on are for molecules and for structures that are periodic in three "
                f"directions, found pbc {structure.pbc.tolist()}: use d3, or make the cell periodic with a wide vacuum"
            )
        extent = np.ptp(structure.positions @ structure.cell.T, axis=0)
        apart = np.max([*self.reach, COORDINATION * Bohr])
        return np.where(structure.pbc[:, None], structure.cell, structure.cell * (extent + apart)[:, None])

    def __deepcopy__(self, memo: Any) -> Dispersion:
        """Itself, in models whose weights are averaged: nothing in it changes, and the library can't copy its own."""
        return self


def _library(kind: str) -> tuple[Any, Any]:
    """The library's interface, and its class of damping parameters."""
    try:
        if kind == "d3":
            from dftd3 import interface as d3

            return d3, d3.RationalDampingParam
        from dftd4 import interface as d4
    except ImportError as error:
        raise ModelError(f"{kind} needs the package dft{kind}: pip install 'carten[dispersion]'") from error
    return d4, d4.DampingParam


def _near(kind: str, functional: str) -> str:
    """Functionals of similar names, or all there are."""
    listed = tomllib.loads((files(f"dft{kind}") / "parameters.toml").read_text(encoding="utf-8"))["parameter"]
    names = [name for name, entry in listed.items() if kind in entry]
    near = difflib.get_close_matches(functional.lower(), names, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}"
