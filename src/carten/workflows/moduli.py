"""What follows from an elastic tensor: Voigt's matrix, averages over orientations, Young's modulus along directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from carten.math.arrays import Floats

VOIGT_PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True)
class Moduli:
    """Isotropic averages of a stiffness, in its unit.

    Args:
        bulk: bulk modulus after Voigt (uniform strain), Reuss (uniform stress) and Hill (mean of the two).
        shear: shear modulus, likewise.

    Source: R. Hill, Proc. Phys. Soc. A 65, 349 (1952); anisotropy: S. I. Ranganathan and M. Ostoja-Starzewski, Phys.
    Rev. Lett. 101, 055504 (2008).
    """

    bulk: tuple[float, float, float]
    shear: tuple[float, float, float]

    @property
    def young(self) -> float:
        """Young's modulus of Hill's averages."""
        bulk, shear = self.bulk[2], self.shear[2]
        return 9.0 * bulk * shear / (3.0 * bulk + shear)

    @property
    def poisson(self) -> float:
        """Poisson's ratio of Hill's averages."""
        bulk, shear = self.bulk[2], self.shear[2]
        return (3.0 * bulk - 2.0 * shear) / (2.0 * (3.0 * bulk + shear))

    @property
    def anisotropy(self) -> float:
        """Universal index ``5 G_V / G_R + B_V / B_R - 6``: 0 for isotropic crystals."""
        return 5.0 * self.shear[0] / self.shear[1] + self.bulk[0] / self.bulk[1] - 6.0


def voigt_matrix(tensor: Floats) -> Floats:
    """(6, 6) or (.., 6) in Voigt order xx, yy, zz, yz, xz, xy, from a tensor (3, 3, 3, 3) or (.., 3, 3) of stiffness.

    The last two axes, and with four axes also the first two, become one.
    """
    rows, columns = np.transpose(VOIGT_PAIRS)
    folded: Floats = tensor[..., rows, columns]
    return folded[rows, columns] if tensor.ndim == 4 else folded


def averages(stiffness: Floats) -> Moduli:
    """Moduli of a stiffness (6, 6), of which the symmetric part counts."""
    c = 0.5 * (stiffness + stiffness.T)
    s = np.asarray(np.linalg.inv(c), dtype=np.float64)
    bulk_voigt, bulk_reuss = c[:3, :3].sum() / 9.0, 1.0 / s[:3, :3].sum()
    shear_voigt = (np.trace(c[:3, :3]) - _off_diagonal(c) + 3.0 * np.trace(c[3:, 3:])) / 15.0
    shear_reuss = 15.0 / (4.0 * (np.trace(s[:3, :3]) - _off_diagonal(s)) + 3.0 * np.trace(s[3:, 3:]))
    return Moduli(_with_mean(bulk_voigt, bulk_reuss), _with_mean(shear_voigt, shear_reuss))


def young_moduli(stiffness: Floats, directions: Floats) -> Floats:
    """Young's modulus along unit vectors (n, 3) of a stiffness (6, 6): ``1 / (n n : S : n n)``, (n,)."""
    compliance = np.linalg.inv(0.5 * (stiffness + stiffness.T))
    strains = np.array([directions[:, i] * directions[:, j] for i, j in VOIGT_PAIRS])  # S has the factors of 2 and 4
    moduli: Floats = 1.0 / np.einsum("in,ij,jn->n", strains, compliance, strains)
    return moduli


def stress_strain(second: Floats, stress: Floats) -> Floats:
    """Derivative of the stress in the strain, from that of the energy per volume (3, 3, 3, 3) under a stress (3, 3).

    ``d sigma_ij / d e_kl = C_ijkl - sigma_ij d_kl + (d_ik sigma_lj + d_il sigma_kj + d_jk sigma_li + d_jl sigma_ki) /
    4``, where C is the second derivative in the symmetric strain e of ``r (1 + e)``. Without stress the two are equal.
    """
    one = np.eye(3)
    shift = sum(
        np.einsum(indices, one, stress) for indices in ("ik,lj->ijkl", "il,kj->ijkl", "jk,li->ijkl", "jl,ki->ijkl")
    )
    result: Floats = second - np.einsum("ij,kl->ijkl", stress, one) + 0.25 * shift
    return result


def _with_mean(voigt: float, reuss: float) -> tuple[float, float, float]:
    return float(voigt), float(reuss), float(voigt + reuss) / 2.0


def _off_diagonal(matrix: Floats) -> float:
    return float(matrix[0, 1] + matrix[0, 2] + matrix[1, 2])
