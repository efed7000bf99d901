"""Products of irreducible Cartesian tensors, l1 x l2 -> l3, as tables in packed coordinates.

The tables follow from the STF bases and the Levi-Civita tensor alone (Coope, Snider and McCourt 1965; Zaverkin et al.
2024, Eqs. 2 and 3): no Clebsch-Gordan coefficients. An even product (l1+l2+l3 even) of true tensors is a true tensor,
an odd product a pseudotensor.
"""

from functools import cache

import numpy as np

from carten.math.arrays import Floats
from carten.math.stf import basis

ROUND_OFF = 1e-12  # far above float64 round-off, far below the smallest non-zero entry of a table


def is_admissible(l1: int, l2: int, l3: int) -> bool:
    """Whether the product l1 x l2 -> l3 exists: |l1-l2| <= l3 <= l1+l2."""
    return min(l1, l2, l3) >= 0 and abs(l1 - l2) <= l3 <= l1 + l2


def is_odd(l1: int, l2: int, l3: int) -> bool:
    """Whether l1 x l2 -> l3 needs the Levi-Civita tensor, that is, makes a pseudotensor of two true tensors."""
    return (l1 + l2 + l3) % 2 == 1


def levi_civita() -> Floats:
    """The Levi-Civita tensor epsilon_ijk, (3, 3, 3), epsilon_xyz = 1."""
    i, j, k = np.indices((3, 3, 3))
    return np.asarray((j - i) * (k - j) * (k - i) / 2, dtype=np.float64)


def _even(l1: int, l2: int, l3: int) -> Floats:
    """<B_l1[a] and B_l2[b] contracted over k index pairs, B_l3[c]> with 2k = l1+l2-l3: B_l3 projects on STF."""
    k = (l1 + l2 - l3) // 2
    left = basis(l1).reshape(2 * l1 + 1, 3 ** (l1 - k), 3**k)
    right = basis(l2).reshape(2 * l2 + 1, 3 ** (l2 - k), 3**k)
    target = basis(l3).reshape(2 * l3 + 1, 3 ** (l1 - k), 3 ** (l2 - k))
    return np.asarray(np.einsum("apk,bqk,cpq->abc", left, right, target, optimize=True))


def _odd(l1: int, l2: int, l3: int) -> Floats:
    """As ``_even`` with 2k+1 = l1+l2-l3 and epsilon_ijh over one further index i of B_l1[a] and j of B_l2[b]."""
    k = (l1 + l2 - l3 - 1) // 2
    left = basis(l1).reshape(2 * l1 + 1, 3 ** (l1 - k - 1), 3, 3**k)
    right = basis(l2).reshape(2 * l2 + 1, 3 ** (l2 - k - 1), 3, 3**k)
    target = basis(l3).reshape(2 * l3 + 1, 3 ** (l1 - k - 1), 3, 3 ** (l2 - k - 1))
    crossed = np.einsum("apik,ijh->apjhk", left, levi_civita())
    return np.asarray(np.einsum("apjhk,bqjk,cphq->abc", crossed, right, target, optimize=True))


@cache
def coupling(l1: int, l2: int, l3: int) -> Floats:
    """Table C of the product z_c = sum_ab C[a, b, c] x_a y_b of packed STF tensors x and y of ranks l1 and l2.

    The product: contract k index pairs of x and y, for an odd product also epsilon_ijh x_i.. y_j.., project on STF of
    rank l3. C is its positive multiple with sum_ab C[a, b, c]^2 = 1 for every c: 1 x 1 -> 1 is the cross product over
    sqrt(2), and exchanging the factors gives the sign (-1)^(l1+l2-l3).
    Returns a read-only array (2l1+1, 2l2+1, 2l3+1) in which every structural zero is exactly 0.
    Raises ValueError unless |l1-l2| <= l3 <= l1+l2 (Zaverkin et al. 2024, Eqs. 2 and 3).
    """
    if not is_admissible(l1, l2, l3):
        raise ValueError(f"no product {l1} x {l2} -> {l3}: expected ranks >= 0 with |l1-l2| <= l3 <= l1+l2")
    table: Floats = _odd(l1, l2, l3) if is_odd(l1, l2, l3) else _even(l1, l2, l3)
    table *= np.sqrt((2 * l3 + 1) / np.sum(table**2))
    table[np.abs(table) < ROUND_OFF] = 0.0
    table.setflags(write=False)
    return table
