"""Elastic, piezoelectric and dielectric tensors of a crystal by derivatives, with clamped and with relaxed ions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.units import GPa
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import constants

from carten.interfaces.ase import Calculator
from carten.math.arrays import Floats
from carten.physics.constants import COULOMB
from carten.workflows.moduli import Moduli, averages, stress_strain, voigt_matrix, young_moduli
from carten.workflows.results import (
    JobResult,
    Model,
    Progress,
    Quantity,
    as_calculator,
    require_crystal,
    require_relaxed,
)
from carten.workflows.strains import StrainDerivatives, strain_derivatives

STRESS = 0.1
"""GPa, above which a stress is pointed out."""
SOFT = 1e-6
"""Of the largest curvature: below it a displacement costs no energy, and ions have no place to relax to."""
C_PER_M2 = constants.e * 1e20
"""C/m^2 in one e/Å^2."""
_PLANES = (("xy", 0, 1), ("xz", 0, 2), ("yz", 1, 2))


@dataclass(frozen=True)
class Response:
    """Response of a crystal to electric fields.

    Args:
        dielectric: (3, 3) relative permittivity of clamped ions.
        dielectric_relaxed: (3, 3) of ions that follow the field.
        piezoelectric: (3, 3, 3) C/m^2 of clamped ions: field first.
        piezoelectric_relaxed: (3, 3, 3) C/m^2.
    """

    dielectric: Floats
    dielectric_relaxed: Floats
    piezoelectric: Floats
    piezoelectric_relaxed: Floats


@dataclass(frozen=True)
class ElasticTensor(JobResult):
    """Stiffness of a crystal: derivative of the stress in the strain.

    Args:
        atoms: the crystal.
        derivatives: what all follows from.
        stiffness: (6, 6) GPa, Voigt order, of ions that follow the strain.
        clamped: (6, 6) GPa of clamped ions.
        moduli: averages of ``stiffness``, GPa.
        response: to electric fields, where the model has it.
    """

    job: ClassVar[str] = "elastic"
    size: ClassVar[tuple[float, float]] = (3.4, 4.7)
    atoms: ase.Atoms
    derivatives: StrainDerivatives = field(repr=False)
    stiffness: Floats
    clamped: Floats
    moduli: Moduli
    response: Response | None = None

    @property
    def eigenvalues(self) -> Floats:
        """(6,) GPa of the symmetric stiffness in Mandel's notation, ascending; all are positive if it is stable."""
        weights = np.sqrt([1.0, 1.0, 1.0, 2.0, 2.0, 2.0])
        symmetric: Floats = 0.5 * (self.stiffness + self.stiffness.T) * np.outer(weights, weights)
        return np.asarray(np.linalg.eigvalsh(symmetric), dtype=np.float64)

    @property
    def stable(self) -> bool:
        """Whether every small strain costs energy (Born's criterion), and so does every displacement of ions."""
        return bool(self.eigenvalues[0] > 0.0) and not self._soft()

    def quantities(self) -> list[Quantity]:
        numbers = [
            Quantity("elastic tensor, relaxed ions", self.stiffness, "GPa"),
            Quantity("elastic tensor, clamped ions", self.clamped, "GPa"),
            Quantity("bulk modulus, Voigt, Reuss, Hill", np.array(self.moduli.bulk), "GPa"),
            Quantity("shear modulus, Voigt, Reuss, Hill", np.array(self.moduli.shear), "GPa"),
            Quantity("Young's modulus", self.moduli.young, "GPa"),
            Quantity("Poisson's ratio", self.moduli.poisson),
            Quantity("universal anisotropy", self.moduli.anisotropy),
            Quantity("eigenvalues", self.eigenvalues, "GPa"),
            Quantity("stable", self.stable),
            Quantity("stress", voigt_matrix(self.derivatives.stress) / GPa, "GPa"),
            Quantity("largest force", self.derivatives.largest_force, "eV/Å"),
        ]
        if self.response is not None:
            numbers += [
                Quantity("dielectric tensor, clamped ions", self.response.dielectric),
                Quantity("dielectric tensor, relaxed ions", self.response.dielectric_relaxed),
                Quantity("piezoelectric tensor, clamped ions", voigt_matrix(self.response.piezoelectric), "C/m²"),
                Quantity(
                    "piezoelectric tensor, relaxed ions", voigt_matrix(self.response.piezoelectric_relaxed), "C/m²"
                ),
            ]
        return numbers

    def tables(self) -> Mapping[str, Mapping[str, Floats]]:
        angles = np.arange(0.0, 360.0, 3.0)
        curves = {f"{name}_GPa": self._young(angles, i, j) for name, i, j in _PLANES}
        return {"young": {"angle_degree": angles, **curves}}

    def warnings(self) -> list[str]:
        remarks, stress = [], float(np.abs(self.derivatives.stress).max() / GPa)
        if stress > STRESS:
            remarks.append(
                f"the largest component of the stress is {stress:.2f} GPa: the tensor is the derivative of the stress "
                "in this cell; for that without stress relax the cell first (carten relax --cell)"
            )
        if self._soft():
            lowest = self.derivatives.curvatures[0]
            remarks.append(
                f"the lowest curvature of the energy in displacements is {lowest:.2g} eV/Å²: the structure is no "
                "minimum, and numbers for relaxed ions mean nothing"
            )
        elif not self.stable:
            remarks.append(f"the crystal is unstable: a strain has the stiffness {self.eigenvalues[0]:.2f} GPa")
        return remarks

    def failures(self) -> list[str]:
        return require_relaxed(self.derivatives.largest_force)

    def draw(self, figure: Figure) -> None:
        axes = figure.add_subplot(projection="polar")
        angles = np.arange(0.0, 361.0, 1.0)
        for (name, i, j), dashes in zip(_PLANES, ("-", "--", ":"), strict=True):
            axes.plot(np.radians(angles), self._young(angles, i, j), dashes, label=name)
        axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.set_ylim(bottom=0.0)
        axes.set_title("Young's modulus in planes (GPa)")
        axes.legend(fontsize=8.0, loc="lower left", bbox_to_anchor=(0.95, 0.85))

    def _young(self, angles: Floats, i: int, j: int) -> Floats:
        directions = np.zeros((len(angles), 3))
        directions[:, i], directions[:, j] = np.cos(np.radians(angles)), np.sin(np.radians(angles))
        return young_moduli(self.stiffness, directions)

    def _soft(self) -> bool:
        curvatures = self.derivatives.curvatures
        return bool(len(curvatures) and curvatures[0] < SOFT * np.abs(curvatures).max())


def elastic(atoms: ase.Atoms, model: Model, progress: Progress | None = None) -> ElasticTensor:
    """Elastic tensor by derivatives of the energy, of clamped ions and of ions that follow the strain.

    The energy is differentiated twice in the strain, in positions, and in both (of a model; forces and stress of other
    calculators are differenced): ``C = C_clamped - L^T H^-1 L / V``, with L the derivative of forces in the strain.
    Under stress what is reported is d stress / d strain, see :func:`carten.workflows.moduli.stress_strain`. Models of
    electric fields also have dielectric and piezoelectric tensors.

    Args:
        atoms: a crystal, relaxed.
        model: a model, its file, or any calculator of ASE with stress.
        progress: called with rows of the Hessian done and all.

    Raises:
        DataError: the structure is no crystal.
        ModelError: an element that the model does not know.

    Source: clamped and relaxed tensors: X. Wu, D. Vanderbilt and D. R. Hamann, Phys. Rev. B 72, 035105 (2005).
    """
    require_crystal(atoms, "elastic")
    calculator = as_calculator(model)
    derivatives = strain_derivatives(atoms, calculator, progress)
    relaxed, clamped = (
        voigt_matrix(stress_strain(second, derivatives.stress)) / GPa
        for second in (derivatives.relaxed, derivatives.clamped)
    )
    response = _response(atoms, calculator, derivatives)
    return ElasticTensor(atoms.copy(), derivatives, relaxed, clamped, averages(relaxed), response)


def _response(atoms: ase.Atoms, calculator: BaseCalculator, derivatives: StrainDerivatives) -> Response | None:
    names = ("dielectric", "piezoelectric", "born_charges")
    if not isinstance(calculator, Calculator) or any(name not in calculator.implemented_properties for name in names):
        return None
    dielectric, piezoelectric, born = (calculator.get_property(name, atoms) for name in names)
    charges = born.transpose(1, 0, 2).reshape(3, -1)  # of the field, then all displacements
    by_field = charges @ derivatives.response(charges.T)
    by_strain = np.einsum("fd,djk->fjk", charges, derivatives.response(derivatives.coupling))
    return Response(
        dielectric,
        dielectric + 4.0 * np.pi * COULOMB * by_field / derivatives.volume,
        piezoelectric * C_PER_M2,
        (piezoelectric + by_strain / derivatives.volume) * C_PER_M2,
    )
