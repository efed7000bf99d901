"""Symmetric trace-free (STF) tensors: an orthonormal basis for any rank, packing, rotation matrices, harmonics.

An irreducible Cartesian tensor of rank l has 2l+1 independent numbers: its coordinates in the basis ``B_l`` of this
module. The basis tensors are the tensors of the real solid harmonics about the z axis, of unit norm, from the largest
azimuthal number m down to m = 0 with the cosine before the sine: l = 1 is (x, y, z), l = 2 is (x2-y2, xy, xz, yz, z2).
"""

from functools import cache
from math import comb, factorial, prod, sqrt

import numpy as np
from numpy.typing import ArrayLike

from carten.math.arrays import Floats


def _solid_harmonic(m: int, n_x: int, n_y: int) -> complex:
    """Component with ``n_x`` indices x, ``n_y`` y and l - n_x - n_y z of the tensor of the solid harmonic (l, m).

    The polynomial is sum_k (-1)^k z^(l-m-2k) (x+iy)^(k+m) (x-iy)^k / (4^k k! (k+m)! (l-m-2k)!), the terminating series
    of r^l P_lm(cos theta) exp(i m phi) (Steinborn and Ruedenberg 1973), and a symmetric tensor's component is the
    polynomial's coefficient over the multinomial l! / (n_x! n_y! n_z!). The factor 1 / l! common to all is left out.
    """
    k, odd = divmod(n_x + n_y - m, 2)
    if k < 0 or odd:
        return 0.0
    i_powers = (1, 1j, -1, -1j)
    xy = sum((comb(k + m, n_y - j) * comb(k, j) * i_powers[(n_y - 2 * j) % 4] for j in range(min(k, n_y) + 1)), 0j)
    scale: float = factorial(n_x) * factorial(n_y) / ((-4) ** k * factorial(k) * factorial(k + m))
    return xy * scale


@cache
def basis(rank: int) -> Floats:
    """Orthonormal basis ``B_l`` of the STF tensors of one rank.

    Returns a read-only array (2l+1, 3, .., 3) with <B_l[m], B_l[n]> = delta_mn; every B_l[m] is symmetric, trace-free.
    Raises ValueError for a negative rank.
    """
    if rank < 0:
        raise ValueError(f"the rank of a tensor must be >= 0, found {rank}")
    axes = np.indices((3,) * rank).reshape(rank, 3**rank)
    n_x, n_y = (axes == 0).sum(0), (axes == 1).sum(0)
    rows = []
    for m in range(rank, -1, -1):
        table = np.array([[_solid_harmonic(m, a, b) for b in range(rank + 1)] for a in range(rank + 1)])
        harmonic = table[n_x, n_y]
        rows += [harmonic.real, harmonic.imag] if m else [harmonic.real]
    tensors = np.stack(rows)
    tensors /= np.linalg.norm(tensors, axis=1, keepdims=True)
    tensors = tensors.reshape((2 * rank + 1,) + (3,) * rank)
    tensors.setflags(write=False)
    return tensors


def to_cartesian(packed: ArrayLike, rank: int) -> Floats:
    """Cartesian form T = sum_m t_m B_l[m] of packed STF tensors.

    packed: (..., 2l+1), any unit. Returns (..., 3, .., 3) with l axes of 3, in the same unit.
    Raises ValueError if the last axis is not 2l+1.
    """
    values = np.asarray(packed, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] != 2 * rank + 1:
        raise ValueError(f"packed tensors of rank {rank} must have shape (..., {2 * rank + 1}), found {values.shape}")
    return np.tensordot(values, basis(rank), axes=1)


def from_cartesian(cartesian: ArrayLike, rank: int) -> Floats:
    """Packed coordinates t_m = <B_l[m], T> of tensors, or of the STF projections of tensors that are not STF.

    cartesian: (..., 3, .., 3) with l axes of 3, any unit. Returns (..., 2l+1) in the same unit.
    Raises ValueError if the last l axes are not all of length 3.
    """
    values = np.asarray(cartesian, dtype=np.float64)
    if values.ndim < rank or values.shape[values.ndim - rank :] != (3,) * rank:
        raise ValueError(f"tensors of rank {rank} must end in {rank} axes of length 3, found shape {values.shape}")
    flat = values.reshape(*values.shape[: values.ndim - rank], 3**rank)
    return np.asarray(flat @ basis(rank).reshape(2 * rank + 1, 3**rank).T)


def is_stf(tensor: ArrayLike, tol: float = 1e-10) -> bool:
    """Whether one Cartesian tensor (3, .., 3) is symmetric and trace-free, to ``tol`` times its largest component.

    Raises ValueError if an axis is not of length 3.
    """
    values = np.asarray(tensor, dtype=np.float64)
    if any(length != 3 for length in values.shape):
        raise ValueError(f"a Cartesian tensor must have all axes of length 3, found shape {values.shape}")
    if values.ndim < 2:
        return True
    defects = [np.abs(values - values.swapaxes(i, i + 1)).max() for i in range(values.ndim - 1)]
    defects.append(np.abs(np.trace(values)).max())
    return bool(max(defects) <= tol * np.abs(values).max())


def rotation(rank: int, matrix: ArrayLike) -> Floats:
    """Matrix D of an orthogonal transformation on packed true tensors, D_mn = <B_l[m], (R x .. x R) B_l[n]>.

    matrix: (3, 3), any element R of O(3). Returns (2l+1, 2l+1); the inversion gives (-1)^l, a pseudotensor takes a
    further det R.
    Raises ValueError if the matrix is not orthogonal.
    """
    orthogonal = np.asarray(matrix, dtype=np.float64)
    if orthogonal.shape != (3, 3) or not np.allclose(orthogonal @ orthogonal.T, np.eye(3), rtol=0, atol=1e-6):
        raise ValueError(f"expected an orthogonal matrix (3, 3), found\n{orthogonal}")
    rotated = basis(rank)
    for axis in range(1, rank + 1):
        rotated = np.moveaxis(np.tensordot(rotated, orthogonal, axes=(axis, 1)), -1, axis)
    return from_cartesian(rotated, rank).T


def ictp_norm(rank: int) -> float:
    """N_l = (2l-1)!! / l!, with which the l-fold contraction of N_l STF(r^l) and a unit vector r is 1.

    The squared norm of N_l STF(r^l) is N_l too, so ``harmonics`` are sqrt((2l+1) / N_l) times those of ICTP
    (Zaverkin et al. 2024, Eq. 1).
    """
    return prod(range(2 * rank - 1, 0, -2)) / factorial(rank)


def harmonics(l_max: int, unit_vectors: ArrayLike) -> Floats:
    """Real spherical harmonics of degrees 0..l_max in packed coordinates, reference implementation.

    Y_l(r) = sqrt((2l+1) N_l) <B_l, r x .. x r>, N_l = (2l-1)!! / l!: "component" normalisation, |Y_l(r)|^2 = 2l+1, so
    Y_0 = 1 and Y_1 = sqrt(3) r.
    unit_vectors: (..., 3), no unit; a vector of length s gives s^l Y_l. Returns (..., (l_max+1)^2), degree by degree.
    Raises ValueError if l_max is negative or the last axis is not of length 3.
    """
    vectors = np.asarray(unit_vectors, dtype=np.float64)
    if l_max < 0 or vectors.ndim == 0 or vectors.shape[-1] != 3:
        raise ValueError(f"expected l_max >= 0 and vectors (..., 3), found l_max = {l_max} and shape {vectors.shape}")
    powers = np.ones((*vectors.shape[:-1], 1))
    blocks = [powers]
    for rank in range(1, l_max + 1):
        powers = (powers[..., :, None] * vectors[..., None, :]).reshape(*vectors.shape[:-1], 3**rank)
        blocks.append(sqrt((2 * rank + 1) * ictp_norm(rank)) * powers @ basis(rank).reshape(2 * rank + 1, 3**rank).T)
    return np.concatenate(blocks, axis=-1)
